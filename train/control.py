"""
Stage `control`: a method without a tree, made as costly as a run with one (methods.md 7.3).

Reads fit.json of the run that it is `like`, and what `fit` reads; writes what `fit` writes. Epochs
are chosen for the operations of training, or the width for expected MACs (on validation images) or
parameters; what was reached stands beside what was wanted, and 5 % is the most that they may differ.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from personae import files
from personae.errors import BadParams
from train import saved
from train.classifier import Cost
from train.fit import RunSettings
from train.runs import TOLERANCE, Control, Equal
from train.tree import hierarchy

log = logging.getLogger(__name__)

_WIDTHS, _STEPS = (0.01, 8.0), 40  # range of backbone.width, and how often it is halved


@dataclass(frozen=True, slots=True)
class Match:
    """What a control was to equal, and what it reached."""

    like: str
    equal: Equal
    wanted: float
    reached: float

    @property
    def ratio(self) -> float:
        """Reached / wanted."""
        return self.reached / self.wanted


def settle(
    settings: RunSettings, control: Control, *, seed: int, results_dir: Path
) -> tuple[RunSettings, Match]:
    """
    Returns settings whose run costs what the run that it is like has cost with this seed.

    Raises:
        MissingInput: That run, or the flat network, was not trained.
        BadParams: No width or number of epochs comes within 5 %.
    """
    like, equal = control.like, control.equal
    facts = files.read_json(results_dir / "flat" / str(seed) / "model.json", stage="flat")
    costs = partial(_cost, side=int(facts["side"]), labels=len(facts["labels"]))
    fits = [
        files.read_json(results_dir / name / str(seed) / "fit.json", stage="fit")
        for name in dict.fromkeys(("flat", like))
    ]
    if equal == "train_flops":
        settled, match = _longer(settings, like, fits, costs)
    else:
        cost = fits[-1]["cost"]
        wanted = float(cost["macs_expected" if equal == "macs" else "params"])
        settled, match = _wider(settings, Match(like, equal, wanted, 0.0), costs)
    log.info("%s of %s: wanted %.4g, reached %.4g", equal, like, match.wanted, match.reached)
    if abs(match.ratio - 1) > TOLERANCE:
        raise BadParams(
            f"A control with the {equal} of '{like}' ({match.wanted:.4g}) comes no nearer than "
            f"{match.reached:.4g} ({match.ratio:.3f} times). Choose another backbone or more epochs."
        )
    return settled, match


def _longer(
    settings: RunSettings,
    like: str,
    fits: Sequence[Mapping[str, Any]],
    costs: Callable[[RunSettings], Cost],
) -> tuple[RunSettings, Match]:
    """
    As many epochs as the run has paid for, with the flat network where it would be none without.

    A record that does not say whether it needs the flat network is of a run that does.
    """
    paid = fits if fits[-1].get("needs_flat", True) else fits[-1:]
    networks = [network for found in paid for network in found["networks"]]
    wanted = sum(float(network["train_flops"]) for network in networks)
    flat = fits[0]["networks"][0]
    pictures = flat["images_seen"] / flat["epochs"]
    per_epoch = 6.0 * pictures * costs(settings).macs_max
    epochs = max(1, round(wanted / per_epoch))
    longer = settings.loop.model_copy(update={"epochs": epochs})
    return replace(settings, loop=longer), Match(like, "train_flops", wanted, epochs * per_epoch)


def _wider(
    settings: RunSettings, match: Match, costs: Callable[[RunSettings], Cost]
) -> tuple[RunSettings, Match]:
    """The width, by halving the range in which the cost grows with it."""

    def at(width: float) -> tuple[float, RunSettings]:
        backbone = settings.backbone.model_copy(update={"width": width})
        chosen = replace(settings, backbone=backbone)
        cost = costs(chosen)
        return float(cost.macs_max if match.equal == "macs" else cost.params), chosen

    low, high = _WIDTHS
    for _ in range(_STEPS):
        middle = round((low * high) ** 0.5, 6)
        low, high = (low, middle) if at(middle)[0] > match.wanted else (middle, high)
    reached, chosen = min(at(low), at(high), key=lambda found: abs(found[0] - match.wanted))
    return chosen, replace(match, reached=reached)


def _cost(settings: RunSettings, *, side: int, labels: int) -> Cost:
    with torch.random.fork_rng(devices=[]):  # building draws weights, which are thrown away
        classifier = saved.build(
            settings.method,
            settings.own,
            settings.backbone,
            tree=hierarchy.flat(labels),
            side=settings.augment.network_side(side),
            mean=np.zeros(3, dtype=np.float32),
        )
    return classifier.cost()


def document(match: Match) -> dict[str, Any]:
    """Returns what fit.json keeps of a control."""
    return {
        "like": match.like,
        "equal": match.equal,
        "wanted": match.wanted,
        "reached": match.reached,
        "ratio": match.ratio,
    }
