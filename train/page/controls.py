"""
A hierarchy against its controls: random groups, and runs without a tree that cost as much.

Comes in: summaries. Goes out: for each hierarchy the paired difference to every control, how
likely by chance, and how nearly equal the cost came (methods.md 7.3, 7.4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from train.evaluation.statistics import Flips, Interval, flips, holm, paired_interval
from train.page.results import ComparedRun
from train.page.summary import RunSummary, difference
from train.runs import TOLERANCE
from train.tree import hierarchy
from train.tree.hierarchy import Nested


@dataclass(frozen=True, slots=True)
class CostMatch:
    """What a control was to cost and what it cost, in the unit of the cost."""

    wanted: float
    reached: float

    @property
    def ratio(self) -> float:
        """Reached / wanted."""
        return self.reached / self.wanted

    @property
    def is_equal(self) -> bool:
        """Says whether the two are within 5 %."""
        return abs(self.reached - self.wanted) <= TOLERANCE * self.wanted


@dataclass(frozen=True, slots=True)
class ControlResult:
    """
    One control of a hierarchy. Differences are the hierarchy minus the control, in shares.

    `match` is that of the seed which came furthest from equal; None for random groups, and where
    the record does not say. `fixed` of a flip: the control is wrong there and the hierarchy right.
    """

    summary: RunSummary
    is_same_shape: bool  # random groups: as many and as large as those of the hierarchy
    match: CostMatch | None
    difference: Interval
    difference_full: Interval | None  # the hierarchy in full, against the control in full if it has
    flips: Mapping[int, Flips]
    p_values: Mapping[int, float] = field(
        default_factory=dict
    )  # after Holm, over the control_group

    @property
    def equal(self) -> str | None:
        """Which cost is equal; None for random groups."""
        return self.summary.run.equal


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """A hierarchy and all its controls; `against_random` is over all random groups together."""

    run: RunSummary
    full: RunSummary | None
    controls: tuple[ControlResult, ...]
    against_random: Interval | None

    @property
    def random(self) -> tuple[ControlResult, ...]:
        """The controls with random groups."""
        return tuple(one for one in self.controls if one.summary.run.is_random)

    @property
    def equals(self) -> tuple[ControlResult, ...]:
        """The controls of equal cost."""
        return tuple(one for one in self.controls if not one.summary.run.is_random)


def control_groups(
    summaries: Sequence[RunSummary], *, resamples: int, seed: int
) -> tuple[ControlGroup, ...]:
    """Returns a control_group for each hierarchy that has a control; the first summary is flat's."""
    full = {row.run.name: row for row in summaries if row.mode == "full"}
    plain = [row for row in summaries[1:] if row.mode == "default"]
    found = []
    for row in plain:
        rivals = [] if row.run.is_control else _rivals(row, plain)
        if rivals:
            found.append(_contest(row, rivals, full, resamples=resamples, seed=seed))
    return tuple(found)


def kind(equal: str | None, method: str) -> str:
    """Returns what a control is in words."""
    costs = {"train_flops": "training operations", "macs": "MACs"}
    return f"{method} with equal {costs.get(equal, 'parameters')}" if equal else "random groups"


def _contest(
    row: RunSummary,
    rivals: Sequence[tuple[RunSummary, bool]],
    full: Mapping[str, RunSummary],
    *,
    resamples: int,
    seed: int,
) -> ControlGroup:
    whole = full.get(row.run.name)
    controls, random = [], []
    for rival, is_same_shape in rivals:
        change = difference(row.predictions, rival.predictions)
        if rival.run.is_random:
            random.append(change)
        change_full = None
        if whole is not None:
            change_full = difference(whole.predictions, full.get(rival.run.name, rival).predictions)
        controls.append(
            ControlResult(
                summary=rival,
                is_same_shape=is_same_shape,
                match=_match(rival.run),
                difference=paired_interval(change, resamples=resamples, seed=seed),
                difference_full=(
                    None
                    if change_full is None
                    else paired_interval(change_full, resamples=resamples, seed=seed)
                ),
                flips={
                    s: flips(rival.predictions[s].correct, one.correct)
                    for s, one in row.predictions.items()
                    if s in rival.predictions
                },
            )
        )
    pooled = None
    if random:
        mean = np.asarray(np.mean(random, axis=0))
        pooled = paired_interval(mean, resamples=resamples, seed=seed)
    return ControlGroup(row, whole, _corrected(controls), pooled)


def _rivals(row: RunSummary, plain: Sequence[RunSummary]) -> list[tuple[RunSummary, bool]]:
    """
    The controls of a run: random groups for the same method and settings, then those like it.

    Random groups of other sizes count where there are none of the run's own sizes.
    """
    shape, settings = _shape(row.run), _settings(row.run)
    others = [one for one in plain if set(one.predictions) & set(row.predictions)]
    random = [
        (one, _shape(one.run) == shape)
        for one in others
        if one.run.is_random
        and one.run.method == row.run.method
        and _is_alike(_settings(one.run), settings)
    ]
    if any(is_same for _, is_same in random):
        random = [(one, is_same) for one, is_same in random if is_same]
    return [*random, *((one, True) for one in others if one.run.like == row.run.name)]


def _shape(run: ComparedRun) -> str:
    """The sizes of a run's tree without its labels: equal for trees that differ by a permutation."""
    first = next(iter(run.seeds.values()))
    return _sizes(hierarchy.to_nested(hierarchy.from_json(first.model["hierarchy"])))


def _sizes(tree: Nested) -> str:
    below = sorted("." if isinstance(child, int) else _sizes(child) for child in tree)
    return f"({''.join(below)})"


def _settings(run: ComparedRun) -> Mapping[str, Any]:
    """The section of the method: an ablation has controls of its own, if any."""
    first = next(iter(run.seeds.values()))
    section: Mapping[str, Any] = first.model.get("params", {}).get(run.method) or {}
    return section


def _is_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Two sections are alike in what both tell: an older record lacks later parameters."""
    return all(one[name] == other[name] for name in one.keys() & other.keys())


def _match(run: ComparedRun) -> CostMatch | None:
    found = [trained.fit.get("match") for trained in run.seeds.values()]
    matches = [CostMatch(float(one["wanted"]), float(one["reached"])) for one in found if one]
    return max(matches, key=lambda one: abs(one.ratio - 1), default=None)


def _corrected(controls: Sequence[ControlResult]) -> tuple[ControlResult, ...]:
    """Holm's correction over every control and seed of the control_group."""
    keys = [(place, seed) for place, one in enumerate(controls) for seed in one.flips]
    corrected = holm([controls[place].flips[seed].p_value for place, seed in keys])
    found = dict(zip(keys, corrected, strict=True))
    return tuple(
        replace(one, p_values={seed: found[place, seed] for seed in one.flips})
        for place, one in enumerate(controls)
    )
