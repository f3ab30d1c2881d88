"""Compares the data that `make repro` has made here with the committed dvc.lock, stage by stage."""

import subprocess
import sys
from pathlib import Path

import yaml

# `listing` and `download` keep SQLite files and segments in order of arrival, and the catalog is a
# database: their bytes differ between machines and runs, their content does not.
STAGES = ("decide", "measure", "filters", "duplicates", "persona", "split", "shards")


def outputs(lock: str) -> dict[str, str]:
    """Returns the hash of each output of the stages whose bytes are promised."""
    stages = yaml.safe_load(lock)["stages"]
    return {out["path"]: out["md5"] for stage in STAGES for out in stages[stage]["outs"]}


def main() -> int:
    """Prints what differs; returns 1 if anything does."""
    committed = subprocess.run(
        ["git", "show", "HEAD:dvc.lock"], capture_output=True, text=True, check=True
    )
    here = outputs(Path("dvc.lock").read_text(encoding="utf-8"))
    promised = outputs(committed.stdout)
    different = {path for path in promised if here.get(path) != promised[path]}
    for path in sorted(different):
        print(f"{path} differs from the committed dvc.lock: {here.get(path)}, {promised[path]}")
    print(f"{len(promised) - len(different)} of {len(promised)} data folders equal dvc.lock")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
