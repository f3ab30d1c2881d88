"""The question of the report, answered in short sentences that the numbers write themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.evaluation.statistics import Interval
from train.page.comparison import RunComparison
from train.page.controls import ControlGroup, ControlResult, kind
from train.page.formatting import between, count, percent, points
from train.page.summary import RunSummary

# A difference below the resolution of the figures that are printed is no difference.
_ROUTED = ("uppsala", "hiernet")  # one branch is executed; the others weigh what all say
_VISIBLE = 0.0005
_FEWEST_SEEDS = 3  # the least for a result (methods.md 7.4)


@dataclass(frozen=True, slots=True)
class MethodAnswer:
    """What is to say of one hierarchical method: a verdict of a few words, and a paragraph."""

    run: str
    verdict: str
    text: str


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """
    What the report says first.

    `verdict` is a few words, `sentence` the success of flat and of each method, `findings` a
    paragraph for each method, `sure` how far all this is to be trusted.
    """

    verdict: str
    sentence: str
    methods: tuple[MethodAnswer, ...] = ()
    certainty: str = ""


def write(comparison: RunComparison, *, images: int) -> ReportAnswer:
    """Returns the answer; `images` is the number of test images."""
    flat, rows = comparison.flat, comparison.leading
    named = f"names {percent(flat.msr.mean)} % of {count(images)} test images rightly"
    if not rows:
        return ReportAnswer(
            "No comparison", _unbroken(f"Only the flat CNN was trained: it {named}.")
        )
    findings = [_finding(comparison, row) for row in rows]
    success = [f"{row.name} {percent(row.msr.mean)} % ({_size(row.difference)})" for row in rows]
    verdict = findings[0].verdict
    if len(findings) > 1:
        verdict = "; ".join(f"{one.run}: {_lowered(one.verdict)}" for one in findings)
    return ReportAnswer(
        verdict=verdict,
        sentence=_unbroken(f"The flat CNN {named}, {', '.join(success)}."),
        methods=tuple(findings),
        certainty=_unbroken(_sure(comparison)),
    )


def _finding(comparison: RunComparison, row: RunSummary) -> MethodAnswer:
    flat, control_group = comparison.flat, comparison.control_group(row)
    sentences = [
        _help(row, comparison.full(row)),
        _where(flat, row),
        _routing(row),
        _cost(flat, row),
        _random(control_group),
        _equals(control_group),
    ]
    text = " ".join(sentence for sentence in sentences if sentence)
    return MethodAnswer(row.run.name, _verdict(row, control_group), _unbroken(text))


def _unbroken(text: str) -> str:
    """No line break between a number and its percent sign."""
    return text.replace(" %", "\u00a0%")


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _size(difference: Interval | None) -> str:
    if difference is None:
        return "not compared"
    return f"{points(difference.mean)} points, 95 % interval {between(difference)}"


def _brief(difference: Interval) -> str:
    return f"{points(difference.mean)} [{between(difference)}]"


def _verdict(row: RunSummary, control_group: ControlGroup | None) -> str:
    difference = row.difference
    if difference is None or not difference.excludes_zero:
        return "Not measurably"
    if difference.mean < 0:
        return "No"
    if control_group is None:
        return "Yes"
    if control_group.against_random is not None and not _beats(control_group.against_random):
        return "Yes, but random groups do as well"
    if not all(_beats(one.difference) for one in control_group.equals):
        return "Yes, but a control of equal cost does as well"
    return "Yes"


def _beats(difference: Interval) -> bool:
    return difference.excludes_zero and difference.mean > 0


def _help(row: RunSummary, full: RunSummary | None) -> str:
    difference = row.difference
    if difference is None:
        return ""
    if not difference.excludes_zero:
        said = f"No difference to flat is shown: {_size(difference)}, which includes zero."
    elif difference.mean > 0:
        said = f"It is better than flat: {_size(difference)}."
    else:
        said = f"It is worse than flat: {_size(difference)}."
    if full is None or full.difference is None:
        return said
    more = f"With all its networks executed: {percent(full.msr.mean)} % ({_brief(full.difference)})"
    return f"{said} {more}."


def _where(flat: RunSummary, row: RunSummary) -> str:
    """Right and wrong add up: what is not gained inside the clusters is gained between them."""
    changes = [
        (
            _shared(flat.wrong_inside.values, flat, row) - row.wrong_inside.mean,
            "inside the clusters",
        ),
        (_shared(flat.wrong_across.values, flat, row) - row.wrong_across.mean, "between clusters"),
    ]
    parts = [
        f"{'gains' if gain > 0 else 'loses'} {percent(abs(gain))} points {where}"
        for gain, where in changes
        if abs(gain) >= _VISIBLE
    ]
    return f"It {', '.join(parts)}." if parts else "It errs where the flat one errs."


def _shared(values: Sequence[float], flat: RunSummary, row: RunSummary) -> float:
    """The mean of what flat has, over the seeds that the run has too."""
    pairs = zip(flat.predictions, values, strict=True)
    return float(np.mean([value for seed, value in pairs if seed in row.predictions]))


def _routing(row: RunSummary) -> str:
    """What the root loses, where `evaluate` measured it."""
    figures = [trained.metrics for trained in row.run.seeds.values()]
    names = ("router_accuracy", "oracle_msr", "route_msr")
    if any(one.get(name) is None for one in figures for name in names):
        return ""
    sent, oracle, routed = (float(np.mean([one[name] for one in figures])) for name in names)
    if row.run.method not in _ROUTED:
        return (
            f"It finds the right cluster of {percent(sent)} % of the images; were that always "
            f"known, {percent(oracle)} % would be named rightly."
        )
    return (
        f"Its root sends {percent(sent)} % of the images to the right cluster; a root that never "
        f"errs would give {percent(oracle)} %, so routing costs {percent(oracle - routed)} points."
    )


def _cost(flat: RunSummary, row: RunSummary) -> str:
    training = []
    if row.cost.flops and flat.cost.flops:
        training.append(f"{_times(row.cost.flops.mean, flat.cost.flops.mean)} the operations")
    paid = row.cost.seconds_clustering
    took = row.cost.seconds_total.mean + (paid.mean if paid else 0.0)
    training.append(f"{_times(took, flat.cost.seconds_total.mean)} the seconds")
    counted = " (the flat network that finds the clusters counted)" if paid else ""
    return (
        f"Against flat, its training takes {' and '.join(training)}{counted}, a prediction "
        f"{_times(row.cost.macs, flat.cost.macs)} the operations, with "
        f"{_times(row.cost.params, flat.cost.params)} the parameters."
    )


def _times(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f} times" if theirs else "an unknown multiple of"


def _random(control_group: ControlGroup | None) -> str:
    difference = control_group.against_random if control_group else None
    if control_group is None or difference is None:
        return "It was not compared with random groups."
    drawn = control_group.random
    sizes = "the same" if all(one.is_same_shape for one in drawn) else "other"
    draws = f", {len(drawn)} draws," if len(drawn) > 1 else ""
    reach = percent(float(np.mean([one.summary.msr.mean for one in drawn])))
    said = f"Random groups of {sizes} sizes{draws} reach {reach} %"
    if not difference.excludes_zero:
        return f"{said}: it does not measurably beat them ({_size(difference)})."
    verb = "beats them" if difference.mean > 0 else "does worse"
    return f"{said}: it {verb} ({_size(difference)})."


def _equals(control_group: ControlGroup | None) -> str:
    found = control_group.equals if control_group else ()
    if not found:
        return "It was not compared with runs of equal cost."
    verbs = {
        "It beats": [one for one in found if _beats(one.difference)],
        "It does not measurably beat": [one for one in found if not one.difference.excludes_zero],
        "It does worse than": [
            one for one in found if one.difference.excludes_zero and one.difference.mean < 0
        ],
    }
    return " ".join(
        f"{verb} {', '.join(map(_against, those))}." for verb, those in verbs.items() if those
    )


def _against(one: ControlResult) -> str:
    flag = ""
    if one.match is None:
        flag = "; whether its cost is equal was not recorded"
    elif not one.match.is_equal:
        flag = f"; its cost is {one.match.ratio:.2f} times, not equal"
    return f"{kind(one.equal, one.summary.run.method)} ({_brief(one.difference)}{flag})"


def _sure(comparison: RunComparison) -> str:
    seeds = len(comparison.flat.predictions)
    parts = [
        f"{row.name} has {len(row.predictions)} of them"
        for row in comparison.leading
        if len(row.predictions) < seeds
    ]
    if seeds == 1:
        said = (
            "This is one seed: the intervals cover the choice of test images, not the luck of a "
            f"training. Take {_FEWEST_SEEDS} or more for a result."
        )
    else:
        few = f" Fewer than {_FEWEST_SEEDS} are no result yet." if seeds < _FEWEST_SEEDS else ""
        said = f"{seeds} seeds{''.join(f'; {part}' for part in parts)}.{few}"
    return (
        f"{said} Each interval holds 95 % by itself: of twenty, one may miss. The clusters meant "
        "are the modularity clusters of each seed."
    )
