"""
Whether a run has nothing to do: the tables are those that the last finished run read and wrote.

Stages `decide` and `download` would read every post only to write the same bytes. A finished run notes
in `finished.json` its parameters, the program and the sha256 of every table; the next run compares.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personae import files
from scraper import fingerprint
from scraper.ledger import Ledger
from scraper.segments import Segments

_NAME = "finished.json"
_STAGES = ("listing", "decide", "download")


def note(data_dir: Path, params: Mapping[str, Any]) -> None:
    """Notes the tables of a finished run, and the parameters that they depend on."""
    files.write_json(data_dir / _NAME, _state(data_dir, params))


def is_done(data_dir: Path, params: Mapping[str, Any], *, site: str) -> bool:
    """
    Returns whether `decide` and `download` would change nothing and request nothing.

    Raises:
        AlreadyRunning, DamagedLedger, DiskRefused: As stage `download` does.
    """
    if _noted(data_dir) != json.loads(json.dumps(_state(data_dir, params))):
        return False
    folder = data_dir / "download"
    with Ledger(folder, site) as ledger:
        return ledger.is_settled(Segments(folder / "segments", segment_bytes=0).sizes())


def is_by_this_program(data_dir: Path) -> bool:
    """Returns whether the last finished run was one of this program, unchanged."""
    noted = _noted(data_dir)
    return isinstance(noted, dict) and noted.get("program") == fingerprint.program()


def _noted(data_dir: Path) -> Any:
    """Returns the note; None when no run has finished, or the note is damaged."""
    try:
        return json.loads((data_dir / _NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _state(data_dir: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "program": fingerprint.program(),
        "params": params,
        "tables": {stage: fingerprint.tables(data_dir / stage) for stage in _STAGES},
    }
