"""The stages of the pipeline in their order, and the command that runs each."""

from pathlib import Path
from typing import Final

from personae.errors import MissingInput

_STAGES: Final = {
    "scraper": ("listing", "decide", "download"),
    "curation": ("measure", "filters", "duplicates", "persona", "split", "shards", "catalog"),
    "train": ("flat", "clustering", "fit", "control", "evaluate", "report"),
}
_ARGUMENTS: Final = {"fit": " RUN", "control": " RUN EQUAL", "evaluate": " RUN"}
COMMANDS: Final = {
    stage: f"python -m {package} {stage}{_ARGUMENTS.get(stage, '')}"
    for package, stages in _STAGES.items()
    for stage in stages
}
"""The command of each stage; words in capitals stand for its arguments."""


def absent(path: Path, stage: str) -> MissingInput:
    """Returns the error for a file that `stage` writes and that is not there."""
    if stage == "fit" and path.parent.parent.name == "flat":
        stage = "flat"  # the stage of the run whose folder is results/flat/SEED
    command = f":\n  {COMMANDS[stage]}" if stage in COMMANDS else "."
    return MissingInput(
        f"{path} is absent: stage '{stage}' writes it. Run that stage first{command}"
    )
