"""The answer of the report, in sentences written from the numbers of a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.guards import FEWEST_SEEDS
from train.page.blocks import ReportTable, table
from train.page.comparison import RunComparison
from train.page.controls import ControlGroup, ControlResult, kind
from train.page.differences import PairedDifference
from train.page.formatting import brief, count, described, p_value, percent, points
from train.page.methods import METHODS, MethodText
from train.page.summary import RunSummary
from train.page.verdict import (
    CONTROLS,
    LEVEL,
    ControlVerdict,
    MethodVerdict,
    Outcome,
    control_of,
    outcome_of,
)

# Methods that follow one route by default. `merged`, `hdcnn` and `dhnn` combine several outputs.
_ROUTED = ("uppsala", "hiernet")


@dataclass(frozen=True, slots=True)
class MethodAnswer:
    """The answer for one hierarchical method: a verdict of a few words, and sentences."""

    run: str
    verdict: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """
    What stands first on the page.

    `verdict` is a few words, `sentence` the accuracy of flat and of each method, `controls` the
    outcome of each method against each control, `methods` the sentences on each method,
    `certainty` the number of seeds and the meaning of the intervals, `warnings` what weakens all of
    it.
    """

    verdict: str
    sentence: str
    terms: tuple[tuple[str, MethodText], ...] = ()
    """Each run that the answer is about, and what its method is."""
    data: str = ""
    """The labels, images and preset that the runs were trained on."""
    controls: ReportTable | None = None
    methods: tuple[MethodAnswer, ...] = ()
    certainty: str = ""
    warnings: tuple[str, ...] = ()


def write(
    comparison: RunComparison,
    *,
    images: int,
    data: str = "",
    warnings: Sequence[str] = (),
    is_ungrouped: bool = False,
) -> ReportAnswer:
    """
    Returns the answer; `data` says what the runs were trained on.

    A method helps or hurts only where it differs from a control both over test images and over
    seeds, after Holm's correction over all comparisons of the answer. With one seed, or where a
    control is missing, it is not yet comparable; with two seeds the verdict is provisional.
    """
    flat, rows = comparison.flat, comparison.leading
    accuracy = f"Accuracy on {count(images)} test images: flat CNN {percent(flat.msr.mean)} %"
    if not rows:
        reason = (
            "The labels have no grouping, so there is no hierarchy"
            if is_ungrouped
            else "Only the flat CNN was trained"
        )
        return ReportAnswer(
            "Nothing to group" if is_ungrouped else "No comparison",
            _unbroken(f"{reason}. {accuracy}."),
            terms=_terms(rows),
            data=data,
            warnings=tuple(warnings),
        )
    methods = tuple(
        _method(comparison, row, verdict)
        for row, verdict in zip(rows, comparison.verdicts, strict=True)
    )
    verdict = methods[0].verdict
    if len(methods) > 1:
        verdict = "; ".join(f"{each.run}: {_lowered(each.verdict)}" for each in methods)
    others = [_accuracy(row) for row in rows]
    return ReportAnswer(
        verdict=verdict,
        sentence=_unbroken(f"{'; '.join([accuracy, *others])}."),
        terms=_terms(rows),
        data=data,
        controls=_controls(comparison.verdicts),
        methods=methods,
        certainty=_unbroken(_certainty(comparison)),
        warnings=tuple(warnings),
    )


def _terms(rows: Sequence[RunSummary]) -> tuple[tuple[str, MethodText], ...]:
    runs = [("flat", "flat"), *((row.name, row.run.method) for row in rows)]
    return tuple((name, METHODS[method]) for name, method in runs if method in METHODS)


def _accuracy(row: RunSummary) -> str:
    text = f"{row.name} {percent(row.msr.mean)} %"
    return f"{text}, {described(row.difference)}" if row.difference else text


def _method(comparison: RunComparison, row: RunSummary, verdict: MethodVerdict) -> MethodAnswer:
    flat, group = comparison.flat, comparison.control_group(row)
    sentences = [
        _against_flat(row, verdict),
        _full(comparison.full(row)),
        _mistakes(row),
        _routing(row),
        _cost(flat, row),
        _against_random(row, group, verdict),
        *_against_equals(row, group, verdict),
    ]
    return MethodAnswer(
        run=row.run.name,
        verdict=verdict.text,
        sentences=tuple(_unbroken(sentence) for sentence in sentences if sentence),
    )


def _controls(verdicts: Sequence[MethodVerdict]) -> ReportTable:
    """A row for each method and a column for each control: outcome, difference and p."""
    head = ("method", *CONTROLS.values())
    rows = [(each.run, *(_outcome(control) for control in each.controls)) for each in verdicts]
    caption = (
        "Does it help at the same cost? Each method against five controls: the outcome, the "
        "difference in points (method minus control), and p after Holm's correction."
    )
    return table(head, rows, caption=caption, words=range(len(head)))


def _outcome(verdict: ControlVerdict) -> str:
    """The cell of a control: its outcome, and below it the difference or what is missing."""
    if verdict.difference is None:
        return f"{verdict.outcome}\n{verdict.cause}"
    detail = points(verdict.difference.mean)
    detail += f", {verdict.cause}" if verdict.cause else ""
    if verdict.p_value is not None:
        detail += f", p {_p(verdict.p_value)}"
    return f"{verdict.outcome}\n{detail}"


def _p(value: float) -> str:
    """A p value after a letter p: = 0.012, or < 0.001."""
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _unbroken(text: str) -> str:
    """No line break between a number and its percent sign."""
    return text.replace(" %", "\u00a0%")


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _against_flat(row: RunSummary, verdict: MethodVerdict) -> str:
    if row.difference is None:
        return ""
    return _compared(row.run.name, row.difference, "flat", verdict.flat.p_value)


def _full(full: RunSummary | None) -> str:
    if full is None or full.difference is None:
        return ""
    return (
        f"With the forward pass over all branches (full), accuracy is {percent(full.msr.mean)} %, "
        f"which is {brief(full.difference)} points compared with flat."
    )


def _compared(name: str, difference: PairedDifference, other: str, p: float | None) -> str:
    """One sentence on a difference, with its seeds, its intervals and its corrected p value."""
    if p is None:
        return f"Difference to {other}: {described(difference)}."
    text = f"{described(difference)}; p {_p(p)}"
    outcome = outcome_of(difference, p)
    if outcome is Outcome.HELPS:
        return f"{name} is better than {other}: {text}."
    if outcome is Outcome.HURTS:
        return f"{name} is worse than {other}: {text}."
    return f"No conclusive difference from {other}: {text}{_with_zero(difference)}."


def _with_zero(difference: PairedDifference) -> str:
    """Which interval includes zero."""
    intervals = {"images": difference.over_images, "seeds": difference.over_seeds}
    names = [name for name, each in intervals.items() if each and not each.excludes_zero]
    if not names:
        return ""
    if len(names) > 1:
        return "; both intervals include zero"
    return f"; the interval over {names[0]} includes zero"


def _mistakes(row: RunSummary) -> str:
    """Where the errors change; the two changes add up to the difference with its sign turned."""
    if row.change_inside is None or row.change_across is None:
        return ""
    return (
        "Compared with flat, the share of images with a wrong label inside the right reference "
        f"cluster changes by {brief(row.change_inside)} points, and the share with a label in "
        f"another cluster by {brief(row.change_across)} points (points of all test images)."
    )


def _routing(row: RunSummary) -> str:
    """What routing costs, where `evaluate` measured it."""
    names = ("router_accuracy", "oracle_msr", "route_msr")
    figures = [values for name in names if (values := row.run.figure(name)) is not None]
    if len(figures) < len(names):
        return ""
    right, perfect, route = (float(np.mean(values)) for values in figures)
    if row.run.method not in _ROUTED:
        return (
            f"The cluster with the highest probability is the right one for {percent(right)} % of "
            f"the images; with the right cluster always known, accuracy would be "
            f"{percent(perfect)} %."
        )
    return (
        f"The root sends {percent(right)} % of the images to the right cluster; with perfect "
        f"routing, accuracy would be {percent(perfect)} %, so routing costs "
        f"{percent(perfect - route)} points."
    )


def _cost(flat: RunSummary, row: RunSummary) -> str:
    training = [f"{_times(row.cost.flops.mean, flat.cost.flops.mean)} the operations"]
    clustering = row.cost.seconds_clustering
    total = row.cost.seconds_total.mean + (clustering.mean if clustering else 0.0)
    training.append(f"{_times(total, flat.cost.seconds_total.mean)} the seconds")
    counted = " (including the flat network that gave the clusters)" if clustering else ""
    return (
        f"Compared with flat, training takes {' and '.join(training)}{counted}, a prediction takes "
        f"{_times(row.cost.macs, flat.cost.macs)} the operations, and the model has "
        f"{_times(row.cost.params, flat.cost.params)} the parameters."
    )


def _times(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f} times" if theirs else "an unknown multiple of"


def _against_random(row: RunSummary, group: ControlGroup | None, verdict: MethodVerdict) -> str:
    difference = group.against_random if group else None
    if group is None or difference is None:
        return f"{row.run.name} was not compared with random groups."
    random = group.random
    sizes = "the same" if all(control.is_same_shape for control in random) else "other"
    draws = f" ({len(random)} draws)" if len(random) > 1 else ""
    accuracy = percent(float(np.mean([control.summary.msr.mean for control in random])))
    compared = _compared(row.run.name, difference, "random groups", _p_of(verdict, "random"))
    return f"Random groups of {sizes} sizes{draws} have an accuracy of {accuracy} %. {compared}"


def _against_equals(
    row: RunSummary, group: ControlGroup | None, verdict: MethodVerdict
) -> list[str]:
    """A sentence for each kind of outcome, with all controls of equal cost that had it."""
    name, controls = row.run.name, group.equals if group else ()
    if not controls:
        return [f"{name} was not compared with runs of equal cost."]
    words = {
        Outcome.HELPS: f"{name} is better than",
        Outcome.NO_DIFFERENCE: "No conclusive difference from",
        Outcome.HURTS: f"{name} is worse than",
        Outcome.NOT_COMPARABLE: "Difference to",
    }
    lists: dict[Outcome, list[str]] = {outcome: [] for outcome in words}
    for each in controls:
        p = _p_of(verdict, control_of(each))
        lists[outcome_of(each.difference, p)].append(_control(each, name, p))
    return [f"{words[outcome]} {', '.join(listed)}." for outcome, listed in lists.items() if listed]


def _p_of(verdict: MethodVerdict, control: str) -> float | None:
    return next(each.p_value for each in verdict.controls if each.control == control)


def _control(control: ControlResult, run: str, p: float | None) -> str:
    """A control of `run` in a list: what it is, the difference, and its corrected p value."""
    flag = "" if p is None else f"; p {_p(p)}"
    if control.match is None:
        flag += "; whether its cost is equal was not recorded"
    elif not control.match.is_equal:
        flag += f"; its cost is {control.match.ratio:.2f} times that of {run}, so not equal"
    name = kind(control.equal, control.summary.run.method)
    return f"{name} ({brief(control.difference)}{flag})"


def _certainty(comparison: RunComparison) -> str:
    seeds = len(comparison.flat.predictions)
    clusters = "Reference clusters are the modularity clusters of each seed."
    if seeds == 1:
        return (
            "This is one seed: the intervals cover the choice of test images and not the variation "
            f"between training runs, so no conclusion is drawn. Train {FEWEST_SEEDS} or more seeds "
            f"for a result. {clusters}"
        )
    tested = [
        each.p_value
        for verdict in comparison.verdicts
        for each in (verdict.flat, *verdict.controls)
        if each.p_value is not None
    ]
    return (
        f"{_seeds(comparison.leading, seeds)} p is the larger of two p values, of the paired "
        "bootstrap over test images and of Student's t over seeds, after Holm's correction for "
        f"multiple comparisons over the {len(tested)} of this answer. A method is called better "
        f"or worse only where p is below {LEVEL}: the chance of any false claim is at most "
        f"{LEVEL:.0%}. The 95 % intervals beside p, and those of all other tables, are not "
        f"corrected. {clusters}"
    )


def _seeds(rows: Sequence[RunSummary], seeds: int) -> str:
    fewer = [
        f"; {row.name} has {len(row.predictions)} of them"
        for row in rows
        if len(row.predictions) < seeds
    ]
    few = ""
    if min(seeds, *(len(row.predictions) for row in rows)) < FEWEST_SEEDS:
        few = f" With fewer than {FEWEST_SEEDS} seeds a verdict is provisional."
    return f"{seeds} seeds{''.join(fewer)}.{few}"
