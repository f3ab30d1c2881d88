"""
Compares a hierarchy with its controls: random groups, and runs without a tree of equal cost.

Takes the summaries of all runs. Gives for each hierarchy the paired difference to every control,
its p value, and how nearly equal the costs are. What a control is for: docs/methods/evaluation.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from train.evaluation.statistics import Flips, flips, holm
from train.page.differences import PairedDifference
from train.page.results import ComparedRun, TrainedRun
from train.page.summary import RunSummary, changes, paired_difference
from train.runs import TOLERANCE
from train.tree import hierarchy
from train.tree.hierarchy import Nested

_UNRECORDED = {"data.share": 1.0, "loop.min_updates": None}
"""Parameters that model.json leaves out where they have these values."""
_INDIFFERENT = {"data.storage", "loop.device", "loop.jobs", "loop.threads"}
"""Parameters that say how a training is computed, not what is learnt."""


@dataclass(frozen=True, slots=True)
class CostMatch:
    """The cost that a control aimed at and the cost that it reached, in the unit of the cost."""

    target: float
    reached: float

    @property
    def ratio(self) -> float:
        """Reached / target."""
        return self.reached / self.target

    @property
    def is_equal(self) -> bool:
        """Says whether the cost reached is within 5 % of the cost aimed at."""
        return abs(self.reached - self.target) <= TOLERANCE * self.target


@dataclass(frozen=True, slots=True)
class ControlResult:
    """
    One control of a hierarchy. Differences are the hierarchy minus the control, in shares.

    `match` is that of the seed furthest from equal cost; None for random groups, and where no
    match was recorded. In `flips`, fixed counts images that the control has wrong and the
    hierarchy right.
    """

    summary: RunSummary
    is_same_shape: bool  # random groups: as many and as large as those of the hierarchy
    match: CostMatch | None
    difference: PairedDifference
    difference_full: PairedDifference | None  # of the forward passes over all branches
    flips: Mapping[int, Flips]
    p_values: Mapping[int, float] = field(default_factory=dict)  # Holm's, over the control group

    @property
    def equal(self) -> str | None:
        """Which cost is equal; None for random groups."""
        return self.summary.run.equal


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """A hierarchy and all its controls; `against_random` is the mean over all random groups."""

    run: RunSummary
    full: RunSummary | None
    controls: tuple[ControlResult, ...]
    against_random: PairedDifference | None

    @property
    def random(self) -> tuple[ControlResult, ...]:
        """The controls with random groups."""
        return tuple(each for each in self.controls if each.summary.run.is_random)

    @property
    def equals(self) -> tuple[ControlResult, ...]:
        """The controls of equal cost."""
        return tuple(each for each in self.controls if not each.summary.run.is_random)


def control_groups(
    summaries: Sequence[RunSummary], *, resamples: int, seed: int
) -> tuple[ControlGroup, ...]:
    """Returns a group for each hierarchy that has a control; the first summary is that of flat."""
    full = {row.run.name: row for row in summaries if row.mode == "full"}
    plain = [row for row in summaries[1:] if row.mode == "default"]
    groups = []
    for row in plain:
        rivals = [] if row.run.is_control else _rivals(row, plain)
        if rivals:
            groups.append(_group(row, rivals, full, resamples=resamples, seed=seed))
    return tuple(groups)


def kind(equal: str | None, method: str) -> str:
    """Returns what a control is in words; `equal` is the cost that is equal, as in `runs`."""
    costs = {"train_flops": "training operations", "macs": "MACs"}
    return f"{method} with equal {costs.get(equal, 'parameters')}" if equal else "random groups"


def _group(
    row: RunSummary,
    rivals: Sequence[tuple[RunSummary, bool]],
    full: Mapping[str, RunSummary],
    *,
    resamples: int,
    seed: int,
) -> ControlGroup:
    compared = partial(paired_difference, resamples=resamples, seed=seed)
    whole = full.get(row.run.name)
    controls, random = [], []
    for rival, is_same_shape in rivals:
        change = changes(row.predictions, rival.predictions)
        if rival.run.is_random:
            random.append(change)
        full_change = None
        if whole is not None:
            full_change = changes(whole.predictions, full.get(rival.run.name, rival).predictions)
        controls.append(
            ControlResult(
                summary=rival,
                is_same_shape=is_same_shape,
                match=_match(rival.run),
                difference=compared(change),
                difference_full=None if full_change is None else compared(full_change),
                flips={
                    s: flips(rival.predictions[s].correct, ours.correct)
                    for s, ours in row.predictions.items()
                    if s in rival.predictions
                },
            )
        )
    pooled = _pooled(random, resamples=resamples, seed=seed) if random else None
    return ControlGroup(row, whole, _corrected(controls), pooled)


def _pooled(
    changes_of: Sequence[Mapping[int, Float[np.ndarray, " image"]]], *, resamples: int, seed: int
) -> PairedDifference:
    """The difference to all random groups: for each seed the mean over groups, then as of two runs."""
    seeds = dict.fromkeys(s for each in changes_of for s in each)
    by_seed = {s: np.mean([each[s] for each in changes_of if s in each], axis=0) for s in seeds}
    return paired_difference(by_seed, resamples=resamples, seed=seed)


def _rivals(row: RunSummary, plain: Sequence[RunSummary]) -> list[tuple[RunSummary, bool]]:
    """
    The controls of a run: random groups with its method and parameters, then runs of equal cost.

    The flag says whether a control's groups are of the run's own sizes. Random groups of other
    sizes count only where no random groups of the run's own sizes were trained.
    """
    settings = _settings(row.run)
    others = [each for each in plain if set(each.predictions) & set(row.predictions)]
    random = [
        (each, _is_same_shape(each.run, row.run))
        for each in others
        if each.run.is_random
        and each.run.method == row.run.method
        and _is_alike(_settings(each.run), settings)
    ]
    if any(is_same for _, is_same in random):
        random = [(each, is_same) for each, is_same in random if is_same]
    return [*random, *((each, True) for each in others if each.run.like == row.run.name)]


def _is_same_shape(run: ComparedRun, other: ComparedRun) -> bool:
    """Whether the trees of both runs differ by a permutation of the labels alone, with every seed."""
    seeds = run.seeds.keys() & other.seeds.keys()
    return all(_shape(run.seeds[seed]) == _shape(other.seeds[seed]) for seed in seeds)


def _shape(trained: TrainedRun) -> str:
    return _sizes(hierarchy.to_nested(trained.hierarchy))


def _sizes(tree: Nested) -> str:
    """The sizes of a tree without its labels."""
    below = sorted("." if isinstance(child, int) else _sizes(child) for child in tree)
    return f"({''.join(below)})"


def _settings(run: ComparedRun) -> Mapping[str, Any]:
    """All parameters that change a result: an ablation has controls of its own, if any."""
    recorded = run.first.model.params
    values = dict(_UNRECORDED)
    for section in (run.method, "data", "augment", "backbone", "loop"):
        for name, value in (recorded.get(section) or {}).items():
            values[f"{section}.{name}"] = value
    return {name: value for name, value in values.items() if name not in _INDIFFERENT}


def _is_alike(each: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Compares only the parameters that both sections have: an older record lacks later ones."""
    return all(each[name] == other[name] for name in each.keys() & other.keys())


def _match(run: ComparedRun) -> CostMatch | None:
    records = [trained.fit.match for trained in run.seeds.values()]
    matches = [CostMatch(each.wanted, each.reached) for each in records if each]
    return max(matches, key=lambda match: abs(match.ratio - 1), default=None)


def _corrected(controls: Sequence[ControlResult]) -> tuple[ControlResult, ...]:
    """Holm's correction over every control and seed of the group."""
    keys = [(index, seed) for index, control in enumerate(controls) for seed in control.flips]
    corrected = holm([controls[index].flips[seed].p_value for index, seed in keys])
    p_values = dict(zip(keys, corrected, strict=True))
    return tuple(
        replace(control, p_values={seed: p_values[index, seed] for seed in control.flips})
        for index, control in enumerate(controls)
    )
