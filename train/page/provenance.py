"""
Where a report comes from: commit with its day, preset, and the hash of the stages above it.

The time of the report is no fact about it: the same inputs give the same page.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from train import revision

NO_PRESET = "none: params.yaml was changed"
_STAGE = "report"


def facts(project: Path, *, commits: Iterable[str]) -> dict[str, str]:
    """
    Returns named facts about the project in the folder `project`; what is not known is left out.

    Args:
        project: The folder of params.yaml, presets and dvc.lock.
        commits: The commits at which the runs were trained.
    """
    trained = ", ".join(sorted({commit for commit in commits if commit}))
    found = {
        "Commit of the report": " of ".join(filter(None, (revision.commit(), revision.day()))),
        "Commit of the trainings": trained,
        "Preset": _preset(project),
        "Stages above, SHA-256 of their part of dvc.lock": _stages_above(project / "dvc.lock"),
    }
    return {name: fact for name, fact in found.items() if fact}


def _preset(project: Path) -> str:
    """Returns the preset with the values of params.yaml, or `NO_PRESET`; empty without the file."""
    values = _yaml(project / "params.yaml")
    if values is None:
        return ""
    for path in sorted((project / "presets").glob("*.yaml")):
        if _yaml(path) == values:
            return path.stem
    return NO_PRESET


def _stages_above(lock: Path) -> str:
    """Returns the hash of dvc.lock without this stage, whose part is written after it."""
    content = _yaml(lock)
    stages = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(stages, dict):
        return ""
    above = {name: stage for name, stage in stages.items() if name != _STAGE}
    return hashlib.sha256(json.dumps(above, sort_keys=True).encode()).hexdigest()


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError):
        return None
