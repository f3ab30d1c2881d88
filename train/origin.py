"""The trained tree that `extend` and `merge` start from, and the checks that it fits the new run."""

from pathlib import Path

from personae.errors import BadParams
from train import saved
from train.errors import BadCheckpoint
from train.fit import RunSettings
from train.params.augment import Params as AugmentParams

METHOD = "uppsala"


def load(folder: Path, settings: RunSettings, *, side: int, target: Path) -> saved.Saved:
    """
    Returns the trained tree in `folder`, for a new run in `target` on images of `side` pixels.

    Raises:
        MissingInput: There is no trained run.
        BadCheckpoint: The weights are damaged, or the run was trained on images of another side.
        BadParams: The run has another method or another network than the settings, or `target` is
            `folder`.
    """
    if folder.resolve() == target.resolve():
        raise BadParams(f"{folder} cannot be read and written at once. Name another new run.")
    tree = saved.load(folder)
    model = tree.model
    if model.method != METHOD:
        raise BadParams(
            f"{folder} holds a run of method '{model.method}', and only trees of '{METHOD}' can "
            "be extended or merged. Name results/RUN/SEED of such a run."
        )
    if model.side != side:
        raise BadCheckpoint(
            f"{folder} was trained on images of {model.side} pixels, and the shards hold images of "
            f"{side}. Make shards of {model.side} pixels (measure.side), or train the tree again."
        )
    before = saved.network_params(model)
    for name in type(before).model_fields:  # the name of the network is the first
        now = getattr(settings.backbone, name, None)
        check(folder, f"backbone.{name}", getattr(before, name), now)
    augmentation = AugmentParams(**model.params["augment"])
    if augmentation.network_side(side) != settings.augment.network_side(side):
        check(folder, "augment.crop", augmentation.crop, settings.augment.crop)
    return tree


def check(folder: Path, name: str, before: object, now: object) -> None:
    """
    Compares the values of a parameter that the new run takes over with the trained networks.

    Raises:
        BadParams: The value differs from that of the trained run.
    """
    if before != now:
        option = "--" + name.rpartition(".")[2].replace("_", "-")
        raise BadParams(
            f"{folder} was trained with {name} {before!r}, and it is {now!r} now: the new run takes "
            f"over its networks. Set it to {before!r} in params.yaml or with {option}."
        )
