"""
Hostile names through the programs: as tags, file types and addresses of a board, and as files and labels.

Tags must return from the catalog as the board served them. No name may become a path: the folders around
the data must be as before, and all files that the programs make must have plain names.
"""

import asyncio
import csv
import functools
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from benchmarks.shared import bad_case, hostile_images, hostile_names
from benchmarks.shared.bad_case import HARMLESS, BadCase
from benchmarks.shared.board import everything
from benchmarks.shared.forked import Forked
from benchmarks.shared.scraper_kills import new_folder
from scraper.post import TAG_KINDS
from tests.scraper.faulty_fixture import FaultyBoard

AT_ONCE = 4
STAGES = ("measure", "filters", "duplicates", "persona", "split", "shards", "catalog", "verify")
EXPORTS = (("export", "folder", "exported"), ("export", "parquet", "exported.parquet"))
PER_PERSONA = 20
"""Images, so that each label has some in each split."""
_FIRST = {"tags": 10_000, "file types": 20_000, "addresses": 30_000, "personae": 40_000}
"""Use of the names to the first id of its posts."""
_PARAMS = """
download: {side: null, give_up_after: 10000}
measure: {side: 32}
filters: {min_side: 0}
duplicates: {artwork: ignore}
persona: {min_samples: 1, balance: none}
split: {train: 0.4, val: 0.3, test: 0.3, tolerance: 1, least_difference: 0}
"""
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,120}")
_MOST_FILE_BYTES = 200
"""Of a name that becomes a file: Linux allows 255 bytes, with the suffix."""


def run() -> list[BadCase]:
    """Returns the outcome of every use of every name."""
    names = [name for _, name in hostile_names.names()]
    with tempfile.TemporaryDirectory() as name:
        # Deep, so that a path that climbs still ends in the folder that is watched.
        root = Path(name, *"abcdefgh")
        root.mkdir(parents=True)
        cases = asyncio.run(_of_board(new_folder(root, "board", _PARAMS), names))
        jobs = (
            functools.partial(_of_files, root / f"files{number}", name, use)
            for number, (name, use) in enumerate(
                (name, use) for name in names for use in ("labels", "paths")
            )
        )
        cases += bad_case.spread(jobs, *bad_case.SCRAPER, at_once=AT_ONCE)
        board = root / "board"
        strays = [
            path
            for path in (*Path(name).rglob("*"), Path(tempfile.gettempdir(), "escaped"))
            if path not in {root, *root.parents}
            and not path.is_relative_to(board)
            and path.exists()
        ]
        if strays:
            cases.append(BadCase("names: all", "all", "", problems=tuple(map(_escaped, strays))))
    return cases


def _escaped(path: Path) -> str:
    return f"escaped: {str(path)!r}"


async def _of_board(folder: Path, names: Sequence[str]) -> list[BadCase]:
    """Runs every command on a board of such names; returns the outcome of each use."""
    async with FaultyBoard() as board:
        for number, name in enumerate(names):
            _offer(board, number, name)
        scrape = ("scraper", *everything(board.origin))
        ends = [await asyncio.to_thread(bad_case.process, folder, *scrape)]
    commands = (*((stage,) for stage in STAGES), *EXPORTS)
    ends += [bad_case.process(folder, "curation", *command) for command in commands]
    if failed := [ended for ended in ends if ended.code]:
        raise SystemExit(f"a command failed:\n{failed[0].text[-2000:]}")
    wrong = [problem for ended in ends for problem in bad_case.complaints(ended)]
    made = [path for name in ("data", "work", "exported") for path in (folder / name).rglob("*")]
    wrong += [_escaped(path) for path in made if not _PLAIN.fullmatch(path.name)]
    served = {row["id"]: row for row in board.rows}
    outcomes = _outcomes(folder / "data", names, served)
    cost = max(ended.cpu_seconds for ended in ends), max(ended.peak_mib for ended in ends)
    return [
        BadCase(f"names: {use}", name, outcome, *cost, (*problems, *wrong))
        for (use, name), (outcome, problems) in outcomes.items()
    ]


def _offer(board: FaultyBoard, number: int, name: str) -> None:
    """Adds the posts of one name to a board: one for each use, and the images of a persona."""
    tags = dict.fromkeys((f"tag_string_{kind}" for kind in TAG_KINDS), name)
    plain = {"tag_string_character": "plain"}
    general = {"tag_string_general": f"1girl solo {name}"}
    odd: list[tuple[int, dict[str, Any]]] = [
        (_FIRST["tags"], tags | plain | general | {"source": name}),
        (_FIRST["file types"], {"file_ext": name, **plain}),
        (_FIRST["addresses"], plain),
    ]
    odd += [
        (_FIRST["personae"] + 1000 * copy, {"tag_string_character": name})
        for copy in range(PER_PERSONA)
    ]
    for first, changes in odd:
        post_id = first + number
        image = hostile_images.drawing(side=48, seed=post_id)
        bad_case.offer(board, post_id, hostile_images.saved(image, "PNG"), **changes)
        post = board.rows[-1]
        entry = post["media_asset"]["variants"][0]
        if first == _FIRST["file types"]:
            entry["file_ext"] = name
        if first == _FIRST["addresses"]:
            post["file_url"] = entry["url"] = f"{board.origin}/odd/{name}"


def _outcomes(
    data_dir: Path, names: Sequence[str], served: Mapping[int, Mapping[str, Any]]
) -> dict[tuple[str, str], tuple[str, list[str]]]:
    """Returns outcome and problems of each use of each name on a board."""
    refusals = bad_case.refusals(data_dir, ("listing", "decide", "download"))
    columns = ", ".join(f"tags_{kind}" for kind in TAG_KINDS)
    with duckdb.connect(str(data_dir / "catalog/catalog.duckdb"), read_only=True) as catalog:
        rows = catalog.table("posts").project(f"post_id, source, {columns}").fetchall()
        labels = {label for (label,) in catalog.table("samples").project("label").fetchall()}
    returned = {post_id: values for post_id, *values in rows}
    outcomes: dict[tuple[str, str], tuple[str, list[str]]] = {}
    for number, name in enumerate(names):
        for use in ("file types", "addresses"):
            reason = refusals.get(_FIRST[use] + number, "")
            outcomes[use, name] = reason or HARMLESS, []
        post = served[_FIRST["tags"] + number]
        expected = [name, *(_split(post[f"tag_string_{kind}"]) for kind in TAG_KINDS)]
        lost = returned.get(_FIRST["tags"] + number) != expected
        outcomes["tags", name] = HARMLESS, [f"lost: {name!r} did not return"] * lost
        is_label = name in labels
        outcomes["personae", name] = HARMLESS if is_label else "no name of a tag", []
    return outcomes


def _split(tags: str) -> list[str]:
    return list(dict.fromkeys(tags.split(" ")))


def _of_files(folder: Path, name: str, use: str, command: Forked) -> list[BadCase]:
    """Scrapes a folder in which a label and its file have the name, or an index that has it."""
    new_folder(folder.parent, folder.name, _PARAMS)
    root = folder / "images"
    sound = hostile_images.saved(hostile_images.drawing(), "PNG")
    (root / "plain").mkdir(parents=True)
    (root / "plain" / "a.png").write_bytes(sound)
    # A folder whose name begins with a dot is hidden, and left out by design.
    is_file = use == "labels" and not name.startswith(".") and not set("/\0") & set(name)
    if is_file and len(name.encode()) <= _MOST_FILE_BYTES:
        (root / name).mkdir()
        (root / name / f"{name}.png").write_bytes(sound)
    else:
        row = (name, "plain") if use == "paths" else ("plain/b.png", name)
        (root / "plain" / "b.png").write_bytes(sound)
        with (root / "index.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "label"), ("plain/a.png", "plain"), row])
    ended = command(folder, "--folder", str(root), "--min-images", "1", "--min-side", "0")
    wrong = bad_case.complaints(ended)
    outcome = bad_case.error(ended)
    if not ended.code:
        stored = pq.read_table(folder / "data/download/images.parquet").num_rows
        outcome = ", ".join(sorted(set(bad_case.refusals(folder / "data").values()))) or HARMLESS
        wrong += ["lost: an image without a reason"] if outcome == HARMLESS and stored < 2 else []
        wrong += [_escaped(p) for p in (folder / "data").rglob("*") if not _PLAIN.fullmatch(p.name)]
    shutil.rmtree(folder)
    return [
        BadCase(f"names: {use}", name, outcome, ended.cpu_seconds, ended.peak_mib, tuple(wrong))
    ]
