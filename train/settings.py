"""
Stage `settings`: writes the effective parameters and the own code of each run, one file for each.

Reads params.yaml and the code of methods and networks; writes data/settings/RUN.json. The stages that
train and evaluate depend on the file of their run instead of on the sections and files of every method,
so that `dvc repro` trains again only the runs that a change concerns, and none for a new method. DVC
cannot choose a section or a file by the method of a run.
"""

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from personae import files
from train.params.backbone import Backbone
from train.runs import Run

log = logging.getLogger(__name__)

_PACKAGE: Final = Path(__file__).parent


def run(
    runs: Mapping[str, Run], sections: Mapping[str, Mapping[str, BaseModel]], *, data_dir: Path
) -> Path:
    """
    Writes method, grouping, parameters and hashes of each run, and returns the folder.

    Args:
        runs: The runs by name.
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
        network = sections[name]["backbone"]
        assert isinstance(network, Backbone), "the section's model"  # noqa: S101  # our own mistake
        content = {
            "method": entry.method,
            "grouping": entry.grouping,
            "params": params,
            "code": code_of(entry.method, network.module),
        }
        files.write_json(folder / f"{name}.json", content)
    log.info("settings: %d runs in %s", len(runs), folder)
    return folder


def code_of(method: str, network: str) -> dict[str, str]:
    """
    Returns the SHA-256 of each file that only the runs of a method or of a network use, by path.

    Args:
        method: Name of the method.
        network: Module in train/networks.
    """
    paths = [
        *_files("methods", method),
        *_files("params", method),
        *_files("networks", network),
        *_files("params/networks", network),
    ]
    return {
        f"train/{path.relative_to(_PACKAGE).as_posix()}": hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in paths
    }


def _files(folder: str, name: str) -> list[Path]:
    """Returns the module `name`, or the modules of the package `name`."""
    module = _PACKAGE / folder / f"{name}.py"
    return [module] if module.exists() else sorted((_PACKAGE / folder / name).rglob("*.py"))
