"""
Personae of a dump with ten million rows: seconds and memory until the candidates are known.

The dump is made first, as Parquet: real tag names of a real table where `PERSONAE_TEST_DATA` has
it, drawn with a skew like a board's, 24 general tags and one character a row. The measured process
reads it with the rules of stage `decide` at their defaults and names every character with at least
1,000 posts that pass.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

from benchmarks.shared.result import Result

ROWS, RUNS = 10_000_000, 3
MOST_SECONDS, MOST_GIB = 60.0, 2.0
_TAGS = Path(os.environ.get("PERSONAE_TEST_DATA", "../shared/data")) / "danbooru-tags/tags.csv.gz"
_MEASURED = """
import asyncio, json, resource, sys, time
from pathlib import Path
begun = time.monotonic()
from scraper.params.decide import Params
from scraper.sources.dump import Dump

class NoBoard:
    identity = "none"

async def names(dump):
    return [tag.name async for tag in dump.candidates(1000)]

dump = Dump(Path(sys.argv[1]), "gsqe", NoBoard(), Params().rules)
personae = asyncio.run(names(dump))
seconds = time.monotonic() - begun
kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "gib": kib / 2**20, "personae": len(personae)}))
"""


def _write(path: Path) -> None:
    """Writes the dump: general tags from 200,000 sets of 24, ranks skewed as u⁵ and u⁴."""
    base = duckdb.connect(config={"memory_limit": "2GiB", "preserve_insertion_order": False})
    base.execute("SELECT setseed(0.5)")
    ranked = "row_number() OVER (ORDER BY post_count DESC, name) - 1 AS rank, name FROM read_csv(?)"
    general, characters = (
        f"CREATE TABLE {name} AS SELECT {ranked} WHERE category = {category}"
        for name, category in (("general", 0), ("characters", 4))
    )
    base.execute(general, [str(_TAGS)])
    base.execute(characters, [str(_TAGS)])
    base.execute(
        "CREATE TABLE sets AS SELECT k, string_agg(name, ' ') AS tags FROM (SELECT k, "
        "(floor((SELECT count(*) FROM general) * power(random(), 5)))::BIGINT AS rank "
        "FROM range(200000) AS r(k), range(24)) JOIN general USING (rank) GROUP BY k"
    )
    rows = base.sql(
        "SELECT n AS id, CASE WHEN random() < 0.25 THEN 'g' WHEN random() < 0.7 THEN 's' "
        "WHEN random() < 0.5 THEN 'q' ELSE 'e' END AS rating, "
        "CASE WHEN random() < 0.97 THEN 'jpg' ELSE 'mp4' END AS file_ext, "
        "(300 + random() * 3000)::INT AS image_width, (300 + random() * 3000)::INT AS image_height, "
        "md5(n::VARCHAR) AS md5, random() < 0.05 AS is_deleted, "
        "tags || CASE WHEN random() < 0.8 THEN ' solo ' ELSE ' ' END || c.name AS tag_string, "
        "c.name AS tag_string_character FROM (SELECT n, (floor(random() * 200000))::BIGINT AS k, "
        "(floor((SELECT count(*) FROM characters) * power(random(), 4)))::BIGINT AS rank "
        "FROM range(1, $rows + 1) AS r(n)) JOIN sets USING (k) JOIN characters c USING (rank)",
        params={"rows": ROWS},
    )
    rows.write_parquet(str(path))


def run() -> Result:
    """Returns the median seconds; the bar also limits the peak memory of the process."""
    if not _TAGS.is_file():
        raise SystemExit(f"{_TAGS} is absent: set PERSONAE_TEST_DATA to the folder of test data.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dump.parquet"
        _write(path)
        size = path.stat().st_size
        measured = []
        for _ in range(RUNS):
            done = subprocess.run(
                [sys.executable, "-c", _MEASURED, str(path)],
                capture_output=True,
                text=True,
                check=True,
            )
            measured.append(json.loads(done.stdout))
    seconds = [each["seconds"] for each in measured]
    most = max(each["gib"] for each in measured)
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Result(
        value=statistics.median(seconds),
        unit="s for ten million rows",
        bar=f"<= {MOST_SECONDS:.0f} s and <= {MOST_GIB:.0f} GiB",
        ok=max(seconds) <= MOST_SECONDS and most <= MOST_GIB,
        runs=seconds,
        details={
            "peak_gib": most,
            "cpu_seconds_a_run": (cpu.ru_utime + cpu.ru_stime) / RUNS,
            "file_gb": size / 1e9,
            "personae": measured[0]["personae"],
        },
    )
