"""
Warnings about results that are too weak for a conclusion: too few updates, images or seeds.

Takes what is recorded of trained runs. Gives one sentence for each kind of weakness, with its count,
its worst case and what to do. The log of a training, the report and `python -m train results` show
the same sentences. Why these limits: docs/methods/evaluation.md.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train.documents import FitDocument, ModelDocument

FEWEST_UPDATES = 200  # of each network
FEWEST_VALIDATION = 20  # images per label, on average
FEWEST_SEEDS = 3  # with two, Student's t interval reaches 12.7 standard errors to each side
LEAST_DRAWN = 0.5  # of the images of a network, in an epoch
CLIMB = 0.01  # rise of the validation accuracy over the last quarter of the epochs


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What a warning needs to know of one run with one seed."""

    run: str
    seed: int
    fit: FitDocument
    batch_size: int | None
    """Images per update; None: not recorded."""
    validation: float | None
    """Validation images per label, on average; None: not recorded."""
    curves: Sequence[Mapping[str, Any]] = ()
    """The rows of curves.csv; empty: not recorded."""

    @property
    def name(self) -> str:
        """The run with its seed."""
        return f"{self.run} seed {self.seed}"


def of_training(record: TrainingRecord) -> list[str]:
    """Returns the warnings about one training, which says nothing of the number of seeds."""
    return [text for text in (kind([record]) for kind in _OF_TRAINING) if text]


def of_results(records: Sequence[TrainingRecord]) -> list[str]:
    """Returns the warnings about all runs of a comparison, each kind once."""
    return [text for text in (kind(records) for kind in (_seeds, *_OF_TRAINING)) if text]


def copied(records: Sequence[TrainingRecord]) -> list[TrainingRecord]:
    """Returns the runs that are a copy of the flat run: there was nothing to group."""
    flat = {record.seed: record.fit for record in records if record.run == "flat"}
    return [r for r in records if r.run != "flat" and r.fit == flat.get(r.seed)]


def record_of(
    model: ModelDocument,
    fit: FitDocument,
    *,
    run: str = "",
    validation: int | None,
    curves: Sequence[Mapping[str, Any]] = (),
) -> TrainingRecord:
    """
    Returns what the warnings need of a trained run.

    Args:
        model: Its model.json.
        fit: Its fit.json.
        run: Name of its folder, where that is not the name in model.json.
        validation: Number of validation images; None: not known.
        curves: The rows of its curves.csv.
    """
    return TrainingRecord(
        run=run or model.run,
        seed=model.seed,
        fit=fit,
        batch_size=batch_size_of(model.params),
        validation=None if validation is None else validation / len(model.labels),
        curves=curves,
    )


def batch_size_of(params: Mapping[str, Mapping[str, Any]]) -> int | None:
    """Returns `data.batch_size` of the parameters of a run; None where they hold none."""
    value = params.get("data", {}).get("batch_size")
    return value if isinstance(value, int) else None


def _seeds(records: Sequence[TrainingRecord]) -> str:
    seeds = defaultdict(set)
    for record in records:
        seeds[record.run].add(record.seed)
    few = {run: len(of) for run, of in seeds.items() if len(of) < FEWEST_SEEDS}
    if not few:
        return ""
    least = min(few.values())
    return (
        f"Too few seeds: {len(few)} of {len(seeds)} runs have fewer than {FEWEST_SEEDS} (fewest: "
        f"{least}). Differences between trainings are not known. Set seeds: [0, 1, 2]."
    )


def _updates(records: Sequence[TrainingRecord]) -> str:
    counts = [
        (updates, f"{record.name}, {network}")
        for record in records
        for network, updates in _updates_of(record)
    ]
    few = [entry for entry in counts if entry[0] < FEWEST_UPDATES]
    if not few:
        return ""
    least, where = min(few)
    return (
        f"Too few weight updates: {len(few)} of {len(counts)} networks had fewer than "
        f"{FEWEST_UPDATES} (fewest: {where}, {least}). Set loop.min_updates, or train on more "
        "images."
    )


def _updates_of(record: TrainingRecord) -> Iterator[tuple[str, int]]:
    """Yields each network with the number of its weight updates."""
    if record.batch_size is not None:
        for network in record.fit.networks:
            images = network.images_seen / network.epochs
            yield network.network, network.epochs * math.ceil(images / record.batch_size)


def _drawn(records: Sequence[TrainingRecord]) -> str:
    networks = [(record, network) for record in records for network in record.fit.networks]
    shares = [
        (network.images_seen / network.epochs / network.pictures, record, network)
        for record, network in networks
    ]
    few = [entry for entry in shares if entry[0] < LEAST_DRAWN]
    if not few:
        return ""
    share, record, network = min(few, key=lambda entry: entry[0])
    return (
        f"Few images drawn: in {len(few)} of {len(networks)} networks an epoch has fewer than "
        f"{100 * LEAST_DRAWN:.0f} % of the images (fewest: {record.name}, {network.network}, "
        f"{share * network.pictures:.0f} of {network.pictures}), as many of each class as the smallest "
        "has. Set balance: weights in the section of the method, which uses all."
    )


def _validation(records: Sequence[TrainingRecord]) -> str:
    known = [record.validation for record in records if record.validation is not None]
    if not known or min(known) >= FEWEST_VALIDATION:
        return ""
    return (
        f"Too few validation images: {min(known):.1f} per label, fewer than {FEWEST_VALIDATION}. "
        "Groups and settings chosen on so few vary much by chance. Take more images, or raise split.val, their share."
    )


def _climbing(records: Sequence[TrainingRecord]) -> str:
    rises = [
        (rise, f"{record.name}, {network}")
        for record in records
        for network, rise in _rises(record)
    ]
    climbing = [entry for entry in rises if entry[0] >= CLIMB]
    if not climbing:
        return ""
    most, where = max(climbing)
    return (
        f"Training too short: in {len(climbing)} of {len(rises)} networks the validation accuracy "
        f"still climbs, by {100 * CLIMB:.0f} point or more in the last quarter of the epochs (most: "
        f"{where}, {100 * most:+.1f} points). Raise loop.epochs."
    )


def _cut(records: Sequence[TrainingRecord]) -> str:
    networks = [(record, network) for record in records for network in record.fit.networks]
    cut = [
        (network.epochs, f"{record.name}, {network.network}")
        for record, network in networks
        if network.stopped_by == "seconds"
    ]
    if not cut:
        return ""
    least, where = min(cut)
    return (
        f"Training cut: {len(cut)} of {len(networks)} networks ended after loop.max_seconds (fewest "
        f"epochs: {where}, {least}). How far they got depends on the machine, so that they compare with "
        "no other network. Raise or unset the limit."
    )


def _rises(record: TrainingRecord) -> Iterator[tuple[str, float]]:
    """
    Yields each network with the rise of its validation accuracy over the last quarter of its epochs.

    The rise is from the best epoch before that quarter, so that a noisy curve seldom rises.
    """
    accuracies = defaultdict(list)
    for row in record.curves:
        accuracies[row["network"]].append(float(row["val_accuracy"]))
    for network, values in accuracies.items():
        before = len(values) - max(1, len(values) // 4)
        if before:
            yield network, values[-1] - max(values[:before])


_OF_TRAINING = (_updates, _drawn, _validation, _climbing, _cut)
