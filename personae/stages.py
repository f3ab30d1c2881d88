"""The stages of the pipeline in their order, and the command that runs each."""

import os
import shlex
from pathlib import Path
from typing import Final

from personae.errors import BadParams, MissingInput

_STAGES: Final = {
    "scraper": ("listing", "decide", "download"),
    "curation": ("measure", "filters", "duplicates", "persona", "split", "shards", "catalog"),
    "train": ("settings", "flat", "clustering", "fit", "control", "evaluate", "report"),
}
_ARGUMENTS: Final = {"fit": " RUN", "control": " RUN EQUAL", "evaluate": " RUN"}
_OF_A_RUN: Final = ("flat", "fit", "evaluate")  # their files lie in results/RUN/SEED
COMMANDS: Final = {
    stage: f"python -m {package} {stage}{_ARGUMENTS.get(stage, '')}"
    for package, stages in _STAGES.items()
    for stage in stages
}
"""The command of each stage; words in capitals stand for its arguments."""


def absent(path: Path, stage: str) -> MissingInput:
    """Returns the error for a file that `stage` writes and that is not there."""
    run, seed = path.parent.parent.name, path.parent.name
    if stage == "fit" and run == "flat":
        stage = "flat"
    command = COMMANDS.get(stage, "").replace(" RUN", f" {run}")
    if stage in _OF_A_RUN and seed.isdecimal() and seed != "0":
        command += f" --seed {seed}"
    return MissingInput(
        f"{path} is absent: stage '{stage}' writes it. Run that stage first"
        + (f":\n  {command}" if command else ".")
        + ("\nAll stages in their order:\n  dvc repro" if Path("dvc.yaml").is_file() else "")
    )


def written(stage: str, data: Path) -> str:
    """Returns where `stage` has written in the folder `data`, and the command of the next stage."""
    order = list(COMMANDS)
    following = COMMANDS[order[order.index(stage) + 1]]
    option = "" if data == Path("data") else f" --data {shlex.quote(str(data))}"
    return f"{data / stage} is written. Next:\n  {following}{option}"


def check_dvc_can_track(data: Path) -> None:
    """
    Checks, before any work, that DVC can track the outputs in `data` where DVC runs this process.

    Raises:
        BadParams: The folder leads out of the repository; DVC would refuse it after the work.
    """
    root = os.environ.get("DVC_ROOT")  # DVC sets it for the command of a stage
    if root and not data.resolve().is_relative_to(Path(root).resolve()):
        raise BadParams(
            f"{data} leads to {data.resolve()}, which is outside of {root}: DVC tracks no output "
            "there. Move the whole project to that disk, or mount a folder of the disk at "
            f"{data} (mount --bind). Without DVC the link works: python -m scraper."
        )
