"""
`python -m benchmarks [NAME …]`: runs the named benchmarks, or all, and writes benchmarks/results/.

Each benchmark is a module of this folder with a function `run() -> Result`. A result file has the
command, the machine, the versions, the commit that made it, and the day.
"""

import argparse
import importlib
import json
import logging
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.shared.result import Result
from personae import files

FOLDER = Path(__file__).parent
LIBRARIES = ("aiohttp", "duckdb", "dvc", "numpy", "pillow", "pyarrow", "torch", "webdataset")

log = logging.getLogger("benchmarks")


def names() -> list[str]:
    """Returns the names of all benchmarks."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__main__")


def machine() -> dict[str, object]:
    """Returns the kind of machine, without its name."""
    return {
        "cpu_cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def write(name: str, result: Result, *, preset: str | None = None) -> Path:
    """Writes one result file, whole or not at all; returns its path."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    record: dict[str, Any] = {
        "name": name,
        "value": result.value,
        "unit": result.unit,
        "peer": result.peer,
        "bar": result.bar,
        "ok": result.ok,
        "runs": result.runs,
        "details": result.details,
        "machine": machine(),
        "versions": {library: metadata.version(library) for library in LIBRARIES},
        "commands": [*result.commands, f"python -m benchmarks {name}"],
        "commit": commit,
        "recorded": datetime.now(UTC).date().isoformat(),
    }
    if preset is not None:
        record |= {"preset": preset}
        record["commands"] = [f"make preset NAME={preset}", *record["commands"]]
    path = FOLDER / "results" / f"{name}{f'-{preset}' if preset else ''}.json"
    files.write_text(path, json.dumps(record, indent=1) + "\n")
    return path


def main() -> int:
    """Runs the benchmarks of the command line; the exit code is 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(names())}")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="preset of the present data, if it is not the demo's: writes NAME-PRESET.json",
    )
    options = parser.parse_args()
    chosen = options.names or names()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    missed = 0
    for name in chosen:
        if name not in names():
            parser.error(f"no benchmark {name!r}; there are {', '.join(names())}")
        result: Result = importlib.import_module(f"benchmarks.{name}").run()
        path = write(name, result, preset=options.preset)
        missed += not result.ok
        log.info(
            "%s: %.4g %s (bar %s, %s) -> %s",
            name,
            result.value,
            result.unit,
            result.bar,
            "met" if result.ok else "MISSED",
            path,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
