"""
Tampered data sets: crafted shards, manifests and tables, a changed catalog, files removed or exchanged.

The ways are those of the tests. `verify` must report each, and `get` must end with the image or with a
named error, and write no other file.
"""

import functools
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.shared import bad_case
from benchmarks.shared.bad_case import BadCase
from benchmarks.shared.forked import Forked
from personae.errors import Exit
from tests.curation.conftest import curate, write_tiny
from tests.curation.crafted import CRAFTED
from tests.curation.crafting import first_row
from tests.curation.test_catalog_check import DEFINITIONS, ROWS, seal
from tests.curation.test_verify import TAMPERING

AT_ONCE = 3
FLIPS = 20
_CATALOG = "catalog/catalog.duckdb"


def run() -> list[BadCase]:
    """Returns the outcome of every way to tamper with a small data set."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        sound = write_tiny(root / "sound").data_dir
        curate(sound, root / "work")
        key = str(first_row(sound / "shards")["post_id"])
        jobs = (
            functools.partial(_attempt, sound, root / str(number), key, group, name, tamper)
            for number, (group, name, tamper) in enumerate(_ways())
        )
        return bad_case.spread(jobs, *bad_case.CURATION, at_once=AT_ONCE)


def _ways() -> Iterator[tuple[str, str, Callable[[Path], Any]]]:
    """Yields group, name and function of each way; the function gets the folder of the data."""
    yield "sound", "nothing is changed", lambda _data: None
    for group, ways in (("shards", CRAFTED), ("build", TAMPERING)):
        for name, tamper in ways.items():
            yield group, name, functools.partial(_in_shards, tamper)
    for name, statement in (ROWS | DEFINITIONS).items():
        yield "catalog", name, functools.partial(_statement, statement)
    for number in range(FLIPS):
        yield "catalog", f"flipped bit {number}", functools.partial(_flipped, number)


def _in_shards(tamper: Callable[[Path], Any], data_dir: Path) -> None:
    tamper(data_dir / "shards")


def _statement(statement: str, data_dir: Path) -> None:
    with duckdb.connect(str(data_dir / _CATALOG)) as connection:
        connection.execute(statement)
    seal(data_dir / _CATALOG)


def _flipped(number: int, data_dir: Path) -> None:
    data = bytearray((data_dir / _CATALOG).read_bytes())
    data[random.Random(number).randrange(len(data))] ^= 1 << number % 8  # noqa: S311  # no secret
    (data_dir / _CATALOG).write_bytes(data)


def _attempt(  # noqa: PLR0917  # the folders, then what `_ways` yields
    sound: Path,
    folder: Path,
    key: str,
    group: str,
    name: str,
    tamper: Callable[[Path], Any],
    command: Forked,
) -> list[BadCase]:
    """Verifies a tampered copy of a sound data set, and reads an image of it."""
    shutil.copytree(sound, folder / "data")
    tamper(folder / "data")
    verified = command(folder, "verify")
    before = set(folder.rglob("*"))
    got = command(folder, "get", key)
    wrong = bad_case.complaints(got)
    wrong += [
        f"escaped: {path}" for path in set(folder.rglob("*")) - before if path.name != f"{key}.png"
    ]
    if "Traceback" in verified.text:
        wrong.append(f"traceback: {verified.text[-300:]}")
    is_reported = verified.code == Exit.BAD_DATA
    if is_reported == (group == "sound"):
        wrong.append(f"not noticed: verify ended with {verified.code}")
    shutil.rmtree(folder)
    reported = bad_case.error(verified) or "reported by verify"
    outcome = reported if is_reported else bad_case.HARMLESS
    cost = max(verified.cpu_seconds, got.cpu_seconds), max(verified.peak_mib, got.peak_mib)
    return [BadCase(f"files: {group}", name, outcome, *cost, tuple(wrong))]
