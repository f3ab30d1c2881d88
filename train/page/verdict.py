"""
The verdict on a hierarchy: it helps, hurts, or shows no difference, against each of five controls.

Takes the differences of each hierarchy to its controls. Gives an outcome for each control, with a p
value that is corrected for all comparisons of the answer, and the verdict in a few words. Without
all five controls there is no verdict. Why these controls: docs/methods/evaluation.md.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from train.evaluation.statistics import holm
from train.guards import FEWEST_SEEDS
from train.page.controls import ControlGroup, ControlResult
from train.page.differences import PairedDifference
from train.page.summary import RunSummary

LEVEL = 0.05  # of all claims of the answer together
CONTROLS = {
    "train_flops": "flat, equal training cost",
    "macs": "flat, equal expected MACs",
    "params": "flat, equal parameters",
    "ensemble": "ensemble of flat networks, equal parameters",
    "random": "random groups of the same sizes",
}
"""The controls that a verdict needs, with the words for each."""


class Outcome(StrEnum):
    """What a comparison with one control shows."""

    HELPS = "helps"
    NO_DIFFERENCE = "no difference shown"
    HURTS = "hurts"
    NOT_COMPARABLE = "not yet comparable"


@dataclass(frozen=True, slots=True)
class ControlVerdict:
    """
    A hierarchy against one control; `difference` is the hierarchy minus the control.

    `cause` says why there is no outcome yet, and is empty where there is one. `p_value` is Holm's,
    over all comparisons of the answer; None with fewer than two seeds.
    """

    control: str
    outcome: Outcome
    difference: PairedDifference | None
    p_value: float | None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class MethodVerdict:
    """The verdict on one hierarchy; `flat` is that against the flat network of any cost."""

    run: str
    controls: tuple[ControlVerdict, ...]
    flat: ControlVerdict

    @property
    def text(self) -> str:
        """The verdict in a few words, never more than the five outcomes allow."""
        outcomes = Counter(each.outcome for each in self.controls)
        number = len(self.controls)
        helps, hurts = outcomes[Outcome.HELPS], outcomes[Outcome.HURTS]
        if outcomes[Outcome.NOT_COMPARABLE]:
            return f"Not yet comparable: {self._missing()}"
        if helps and hurts:
            text = f"Mixed: helps against {helps} and hurts against {hurts} of {number} controls"
        elif hurts:
            text = f"Hurts against {_share(hurts, number)}"
        elif helps == number:
            text = f"Helps against {_share(helps, number)}"
        elif helps:
            text = f"No difference shown against {_share(number - helps, number)}; helps against {helps}"
        else:
            text = "No difference shown"
        seeds = min(each.difference.seeds for each in self.controls if each.difference is not None)
        return f"{text} (provisional: {seeds} seeds)" if seeds < FEWEST_SEEDS else text

    def _missing(self) -> str:
        """Names each cause once, with the number of its controls unless it holds for all."""
        causes = Counter(each.cause for each in self.controls if each.cause)
        number = len(self.controls)
        return ", ".join(
            cause if count == number else f"{count} of {number} controls {cause}"
            for cause, count in causes.items()
        )


def outcome_of(difference: PairedDifference, p_value: float | None) -> Outcome:
    """Returns what a difference with this corrected p value shows."""
    if p_value is None:
        return Outcome.NOT_COMPARABLE
    if p_value >= LEVEL:
        return Outcome.NO_DIFFERENCE
    return Outcome.HELPS if difference.mean > 0 else Outcome.HURTS


def verdicts(
    hierarchies: Sequence[RunSummary], groups: Sequence[ControlGroup]
) -> tuple[MethodVerdict, ...]:
    """
    Returns the verdict on each of `hierarchies`, the runs that the answer is about.

    Holm's correction is over all their comparisons: with flat, and with each control.
    """
    by_run = {group.run.name: group for group in groups}
    compared = [_compared(row, by_run.get(row.name)) for row in hierarchies]
    tested = [
        (index, name)
        for index, differences in enumerate(compared)
        for name, difference in differences.items()
        if difference.seeds > 1
    ]
    corrected = holm([compared[index][name].p_value for index, name in tested])
    p_values = dict(zip(tested, corrected, strict=True))
    return tuple(
        MethodVerdict(
            run=row.name,
            controls=tuple(
                _verdict(
                    name,
                    differences.get(name),
                    p_values.get((index, name)),
                    cause=_cause(name, by_run.get(row.name)),
                )
                for name in CONTROLS
            ),
            flat=_verdict("flat", differences.get("flat"), p_values.get((index, "flat"))),
        )
        for index, (row, differences) in enumerate(zip(hierarchies, compared, strict=True))
    )


def control_of(control: ControlResult) -> str:
    """Returns the key of `CONTROLS` for a control without a tree."""
    is_ensemble = control.summary.run.method == "ensemble"
    return "ensemble" if is_ensemble else str(control.equal)


def _compared(row: RunSummary, group: ControlGroup | None) -> dict[str, PairedDifference]:
    """The differences that the answer draws a conclusion from, by control; flat is among them."""
    differences = {} if row.difference is None else {"flat": row.difference}
    if group is not None:
        differences |= {control_of(each): each.difference for each in group.equals}
        if group.against_random is not None:
            differences["random"] = group.against_random
    return differences


def _verdict(
    control: str, difference: PairedDifference | None, p_value: float | None, *, cause: str = ""
) -> ControlVerdict:
    if difference is None:
        return ControlVerdict(control, Outcome.NOT_COMPARABLE, None, None, "not trained")
    if difference.seeds < 2:
        cause = "with one seed"
    outcome = Outcome.NOT_COMPARABLE if cause else outcome_of(difference, p_value)
    return ControlVerdict(control, outcome, difference, p_value, cause)


def _cause(control: str, group: ControlGroup | None) -> str:
    """Why a trained control is not the control that the verdict needs; empty: it is."""
    if group is None:
        return ""
    if control == "random":
        is_same = all(each.is_same_shape for each in group.random)
        return "" if is_same else "of other sizes"
    match = next((each.match for each in group.equals if control_of(each) == control), None)
    is_trained = any(control_of(each) == control for each in group.equals)
    if is_trained and match is None:
        return "without a record of the cost"
    return "" if match is None or match.is_equal else "of another cost"


def _share(part: int, number: int) -> str:
    return f"all {number} controls" if part == number else f"{part} of {number} controls"
