"""
`python -m train record PRESET`: keeps figures that are worth keeping.

Reads results/RUN/SEED/{metrics,cost,fit,model}.json and the shards' manifest; writes
experiments/PRESET/RUN-SEED.json, which is committed. `results/` itself changes with the preset.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from personae import files
from personae.errors import BadParams, MissingInput

log = logging.getLogger(__name__)


def run(
    preset: str,
    *,
    data_dir: Path,
    results_dir: Path,
    experiments_dir: Path,
    commands: Sequence[str] = ("dvc repro",),
) -> list[Path]:
    """
    Writes one file per run and seed found under `results_dir` and returns their paths.

    `commands` are those that made the results; the commit is that of the training.

    Raises:
        BadParams: `preset` is no plain name.
        MissingInput: There is no evaluated run, or no manifest.
    """
    if not re.fullmatch(r"[a-z0-9_]+", preset):
        raise BadParams(f"'{preset}' is no name of a preset: use lower-case letters, digits, _.")
    found = sorted(results_dir.glob("*/*/metrics.json"))
    if not found:
        raise MissingInput(f"No metrics.json lies under {results_dir}: run `dvc repro` first.")
    manifest = _json(data_dir / "shards" / "manifest.json")
    written = []
    for path in found:
        fit = _json(path.with_name("fit.json"))
        record = {
            "preset": preset,
            "run": path.parent.parent.name,
            "seed": int(path.parent.name),
            "metrics": _json(path),
            "cost": _json(path.with_name("cost.json")),
            "fit": fit,
            "params": _json(path.with_name("model.json"))["params"],
            "data": {key: manifest[key] for key in ("root_sha256", "labels", "samples", "image")},
            "machine": {"cpu_cores": fit["cpu_cores"], "architecture": fit["device_name"]},
            "commit": fit.get("commit", ""),
            "commands": [*commands, f"python -m train record {preset}"],
        }
        target = experiments_dir / preset / f"{record['run']}-{record['seed']}.json"
        files.write_json(target, record)
        written.append(target)
    log.info("recorded %d runs in %s", len(written), experiments_dir / preset)
    return written


def _json(path: Path) -> dict[str, Any]:
    return files.read_json(path, stage="evaluate")
