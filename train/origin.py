"""A trained tree that another run is made from, and whether the two fit together."""

from pathlib import Path

from personae.errors import BadParams
from train import backbone, saved
from train.data import augment
from train.errors import BadCheckpoint
from train.fit import RunSettings

METHOD = "uppsala"


def load(folder: Path, settings: RunSettings, *, side: int, target: Path) -> saved.Saved:
    """
    Returns the tree in `folder`, for a run in `target` on images of `side` pixels.

    Raises:
        MissingInput: There is no trained run.
        BadCheckpoint: The weights are damaged, or the run was trained on images of another side.
        BadParams: It is a run of another method, or the settings ask for another network, or
            `target` is its own folder.
    """
    if folder.resolve() == target.resolve():
        raise BadParams(f"{folder} cannot be read and written at once. Name another new run.")
    found = saved.load(folder)
    facts = found.facts
    if facts["method"] != METHOD:
        raise BadParams(
            f"{folder} holds a run of method '{facts['method']}', and only trees of '{METHOD}' can "
            "be extended or merged. Name results/RUN/SEED of such a run."
        )
    if facts["side"] != side:
        raise BadCheckpoint(
            f"{folder} was trained on images of {facts['side']} pixels, and the shards hold "
            f"images of {side}. Make shards of {facts['side']} pixels (measure.side), or train "
            "the tree again."
        )
    before = backbone.Params(**facts["params"]["backbone"])
    for name in backbone.Params.model_fields:
        check(folder, f"backbone.{name}", getattr(before, name), getattr(settings.backbone, name))
    cut = augment.Params(**facts["params"]["augment"])
    if cut.network_side(side) != settings.augment.network_side(side):
        check(folder, "augment.crop", cut.crop, settings.augment.crop)
    return found


def check(folder: Path, name: str, before: object, now: object) -> None:
    """
    Compares a parameter that decides the shape of the networks.

    Raises:
        BadParams: It is not what it was.
    """
    if before != now:
        option = "--" + name.rpartition(".")[2].replace("_", "-")
        raise BadParams(
            f"{folder} was trained with {name} {before!r}, and it is {now!r} now: its weights would "
            f"not fit. Set it to {before!r} in params.yaml or with {option}."
        )
