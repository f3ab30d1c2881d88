"""
Stage `control`: trains a control without a tree that has the same cost as a run with a tree.

Reads fit.json of that run, and what `fit` reads; writes what `fit` writes. The number of epochs is
chosen for equal operations of training, the width for equal expected MACs (on validation images) or
equal parameters. fit.json keeps the wanted and the reached cost, which differ by 5 % at most. See
docs/methods/evaluation.md.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from personae.errors import BadParams
from train import saved
from train.classifier import Cost
from train.documents import FitDocument, MatchDocument, ModelDocument
from train.fit import RunSettings
from train.runs import TOLERANCE, Control
from train.tree import hierarchy

log = logging.getLogger(__name__)

_WIDTHS, _STEPS = (0.01, 8.0), 40  # range of backbone.width, and steps of the bisection


def settle(
    settings: RunSettings, control: Control, *, seed: int, results_dir: Path
) -> tuple[RunSettings, MatchDocument]:
    """
    Returns settings with the cost of the run `control.like` with this seed, and the two costs.

    Raises:
        MissingInput: The run `like` or the flat network was not trained.
        BadParams: No width or number of epochs comes within 5 %.
    """
    like, equal = control.like, control.equal
    flat_dir = results_dir / "flat" / str(seed)
    model = ModelDocument.read(flat_dir / "model.json", stage="flat")
    flat = FitDocument.read(flat_dir / "fit.json", stage="flat")
    run = FitDocument.read(results_dir / like / str(seed) / "fit.json")
    cost_of = partial(_cost, side=model.side, labels=len(model.labels))
    if equal == "train_flops":
        wanted = _paid(run, flat if like != "flat" else None)
        images = _epoch_images(settings, model, flat, flat_dir / "validation.parquet")
        settled, reached = _longer(settings, wanted, cost_of, images=images)
    else:
        cost = run.cost.macs_expected if equal == "macs" else run.cost.params
        if cost is None:
            raise BadParams(
                f"fit.json of '{like}' was written by an older version and holds no expected MACs. "
                f"Train it again: python -m train fit {like} --seed {seed}"
            )
        wanted = float(cost)
        settled, reached = _wider(settings, wanted, cost_of, macs=equal == "macs")
    match = MatchDocument(
        like=like, equal=equal, wanted=wanted, reached=reached, ratio=reached / wanted
    )
    log.info("%s of %s: wanted %.4g, reached %.4g", equal, like, wanted, reached)
    if abs(match.ratio - 1) > TOLERANCE:
        raise BadParams(
            f"A control with the {equal} of '{like}' ({wanted:.4g}) comes no nearer than "
            f"{reached:.4g} ({match.ratio:.3f} times). Choose another backbone or more epochs."
        )
    return settled, match


def _paid(run: FitDocument, flat: FitDocument | None) -> float:
    """Returns the operations of the run's training, with the flat network's if the run needs it."""
    paid = [flat] if flat is not None and run.needs_flat else []
    networks = [network for fit in [*paid, run] for network in fit.networks]
    return sum(network.train_flops for network in networks)


def _epoch_images(
    settings: RunSettings, model: ModelDocument, flat: FitDocument, validation: Path
) -> float:
    """
    Returns the images of an epoch of `settings`, from those of the flat network.

    Either may train on a share of the images, and on the validation images too, which `validation`
    counts.
    """
    network, now = flat.networks[0], settings.data
    before = model.params.get("data", {})
    share, had_val = float(before.get("share", 1)), bool(before.get("train_on_val"))
    images = now.share / share * network.images_seen / network.epochs
    if now.train_on_val != had_val:
        whole, val = network.pictures / share, pq.read_metadata(validation).num_rows
        images *= (whole - val if had_val else whole + val) / whole
    return images


def _longer(
    settings: RunSettings, wanted: float, cost_of: Callable[[RunSettings], Cost], *, images: float
) -> tuple[RunSettings, float]:
    """
    Returns settings with the number of epochs that is nearest to `wanted` operations.

    `loop.max_train_flops` and `loop.max_seconds` limit each network of the run. The control has one
    network for all of them, so that the limits would leave it behind their cost.
    """
    per_epoch = 6.0 * images * cost_of(settings).macs_max
    epochs = max(1, round(wanted / per_epoch))
    changed = {"epochs": epochs, "min_updates": None}
    changed |= {"max_train_flops": None, "max_seconds": None}
    return replace(settings, loop=settings.loop.model_copy(update=changed)), epochs * per_epoch


def _wider(
    settings: RunSettings, wanted: float, cost_of: Callable[[RunSettings], Cost], *, macs: bool
) -> tuple[RunSettings, float]:
    """Returns settings with the width that is nearest to `wanted` MACs or parameters, by bisection."""
    if "width" not in type(settings.backbone).model_fields:
        raise BadParams(
            f"{settings.backbone.name} has no width, so no control can have the MACs or parameters of "
            "another network. Take the controls train_flops and ensemble (compare.equal)."
        )

    @cache  # the last steps of the bisection repeat a width
    def at(width: float) -> tuple[float, RunSettings]:
        backbone = settings.backbone.model_copy(update={"width": width})
        candidate = replace(settings, backbone=backbone)
        cost = cost_of(candidate)
        return float(cost.macs_max if macs else cost.params), candidate

    low, high = _WIDTHS
    for _ in range(_STEPS):
        middle = round((low * high) ** 0.5, 6)
        low, high = (low, middle) if at(middle)[0] > wanted else (middle, high)
    reached, nearest = min(at(low), at(high), key=lambda pair: abs(pair[0] - wanted))
    return nearest, reached


def _cost(settings: RunSettings, *, side: int, labels: int) -> Cost:
    # Shapes are enough, but some networks of a library compute their sizes with tensors.
    device = "cpu" if "/" in settings.backbone.name else "meta"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        classifier = saved.build(
            settings.method,
            settings.own,
            settings.backbone,
            tree=hierarchy.flat(labels),
            side=settings.augment.network_side(side),
            mean=np.zeros(3, dtype=np.float32),
            trains=False,
        )
    return classifier.cost()
