"""
The root hash of the shards under twelve combinations of what must not matter.

Workers, time zone, locale, hash seed, umask and folder differ; the downloaded images are the same. Each
combination runs every stage of curation in new processes. The tables must have equal bytes too.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shared import curation_kills
from benchmarks.shared.result import Result

STAGES = (*curation_kills.BEFORE, "shards")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything that may differ between two machines with the same images."""

    workers: int
    time_zone: str
    locale: str
    hash_seed: int
    umask: int
    folder: str


ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns")
LOCALES = ("C", "C.UTF-8", "POSIX")
FOLDERS = ("plain", "with a space", "désert été", "deep/er/still")
COMBINATIONS = tuple(
    Surroundings(
        workers=1 + number % 3,
        time_zone=ZONES[number // 3 % 3],
        locale=LOCALES[number // 2 % 3],
        hash_seed=number,
        umask=(0o022, 0o077, 0o002)[number // 4],
        folder=FOLDERS[number // 3],
    )
    for number in range(12)
)


def run() -> Result:
    """Returns the number of distinct root hashes."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source = curation_kills.collect(root)
        builds = [
            _built(each, source, root / f"{number}") for number, each in enumerate(COMBINATIONS)
        ]
    roots = {build["shards/manifest.json root"] for build in builds}
    differing = sorted(
        {file for build in builds for file in build if build[file] != builds[0].get(file)}
    )
    return Result(
        value=len(roots),
        unit=f"root hashes in {len(COMBINATIONS)} combinations",
        bar="1, and equal bytes of every table",
        ok=len(roots) == 1 and not differing,
        runs=[float(build == builds[0]) for build in builds],
        peer="the first combination",
        details={
            "combinations": [str(each) for each in COMBINATIONS],
            "root_sha256": sorted(roots),
            "files_compared": len(builds[0]),
            "files_that_differ": differing,
        },
    )


def _built(around: Surroundings, source: Path, root: Path) -> Mapping[str, Any]:
    """Returns the sha256 of every file that the stages write in these surroundings."""
    folder = root / around.folder
    shutil.copytree(source, folder)
    settings = {
        "TZ": around.time_zone,
        "LC_ALL": around.locale,
        "PYTHONHASHSEED": str(around.hash_seed),
    }
    for stage in STAGES:
        options = ["--workers", str(around.workers)] if stage in {"measure", "duplicates"} else []
        subprocess.run(
            [sys.executable, "-m", "curation", stage, *options],
            cwd=folder,
            env=os.environ | settings,
            umask=around.umask,
            check=True,
            capture_output=True,
        )
    hashes = {
        str(path.relative_to(folder / "data")): hashlib.sha256(path.read_bytes()).hexdigest()
        for stage in STAGES
        for path in sorted((folder / "data" / stage).rglob("*"))
        if path.is_file()
    }
    manifest = json.loads((folder / "data/shards/manifest.json").read_text())
    shutil.rmtree(root)
    return hashes | {"shards/manifest.json root": manifest["root_sha256"]}
