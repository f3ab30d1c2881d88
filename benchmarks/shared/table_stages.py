"""
The table stages one after another on synthetic tables, each in a process of its own.

`duplicates` is not run: its tables hold the planted groups. `decide`, `filters`, `persona`, `split` and
`catalog` read what the stages before them wrote. The images have 48 pixels, and `split` compares no
edges: that reads every image, at a pace of its own.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.shared import peak, planted_data, table_data

STAGES = {
    "decide": ["decide", "--min-images", "300"],
    "filters": ["filters", "--min-side", "32"],
    "persona": ["persona"],
    "split": ["split", "--least-difference", "0"],
    "catalog": ["catalog"],
}
COMMANDS = [
    f"python -m {'scraper' if stage == 'decide' else 'curation'} {' '.join(arguments)}"
    for stage, arguments in STAGES.items()
]


@contextmanager
def tables(posts: int) -> Iterator[Path]:
    """
    Gives a data folder with `posts` posts, as far as `measure`, and the planted duplicate groups.

    Under the folder PERSONAE_BENCH_DIR, where it is set, the tables stay for the next benchmark.
    """
    kept = os.environ.get("PERSONAE_BENCH_DIR")
    if kept is None:
        with tempfile.TemporaryDirectory() as folder:
            yield _made(Path(folder) / "data", posts)
        return
    data_dir = Path(kept) / f"tables_{posts}" / "data"
    yield data_dir if data_dir.exists() else _made(data_dir, posts)


def _made(data_dir: Path, posts: int) -> Path:
    part = data_dir.with_name("part")
    shutil.rmtree(part, ignore_errors=True)
    peak.apart(table_data.write, part, posts, shared_images=False)
    peak.apart(planted_data.write_duplicates, part, posts)
    return part.rename(data_dir)


def costs(data_dir: Path) -> dict[str, dict[str, float]]:
    """Runs the stages; returns seconds, CPU seconds and peak MiB of each."""
    measured: dict[str, dict[str, float]] = {}
    for stage, arguments in STAGES.items():
        if stage == "catalog":
            peak.apart(planted_data.write_samples, data_dir)
        package = "scraper" if stage == "decide" else "curation"
        cost: dict[str, Any] = asdict(peak.of_command([package, *arguments], data_dir))
        measured[stage] = {name: round(value, 2) for name, value in cost.items()}
    return measured
