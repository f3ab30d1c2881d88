"""
Stage `settings`: writes the effective parameters of each run, one file for each.

Reads params.yaml alone; writes data/settings/RUN.json. `fit` depends on the file of its run instead
of on the sections of every method, so that `dvc repro` trains again only the runs that a change
concerns. DVC cannot choose a section by the method of a run.
"""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from personae import files
from train.runs import Run

log = logging.getLogger(__name__)


def run(
    runs: Mapping[str, Run], sections: Mapping[str, Mapping[str, BaseModel]], *, data_dir: Path
) -> Path:
    """
    Writes method, grouping and parameters of each run, and returns the folder.

    Args:
        runs: Section `runs`.
        sections: For each run its effective sections by name.
        data_dir: Folder of the tables.
    """
    folder = data_dir / "settings"
    shutil.rmtree(folder, ignore_errors=True)  # files of runs that are gone
    files.make_folder(folder)
    for name, entry in runs.items():
        params = {
            section: model.model_dump(mode="json") for section, model in sections[name].items()
        }
        content = {"method": entry.method, "grouping": entry.grouping, "params": params}
        files.write_json(folder / f"{name}.json", content)
    log.info("settings: %d runs in %s", len(runs), folder)
    return folder
