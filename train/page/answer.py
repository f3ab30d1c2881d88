"""The question of the report, answered in short sentences that the numbers write themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.evaluation.statistics import Interval
from train.page.comparison import Comparison
from train.page.controls import Contest, Control, kind
from train.page.markup import between, count, percent, points
from train.page.summary import Summary

# A difference below the resolution of the figures that are printed is no difference.
_ROUTED = ("uppsala", "hiernet")  # one branch is executed; the others weigh what all say
_VISIBLE = 0.0005
_FEWEST_SEEDS = 3  # the least for a result (methods.md 7.4)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to say of one hierarchical method: a verdict of a few words, and a paragraph."""

    run: str
    verdict: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What the report says first.

    `verdict` is a few words, `sentence` the success of flat and of each method, `findings` a
    paragraph for each method, `sure` how far all this is to be trusted.
    """

    verdict: str
    sentence: str
    findings: tuple[Finding, ...] = ()
    sure: str = ""


def write(comparison: Comparison, *, images: int) -> Answer:
    """Returns the answer; `images` is the number of test images."""
    flat, rows = comparison.flat, comparison.leading
    named = f"names {percent(flat.msr.mean)} % of {count(images)} test images rightly"
    if not rows:
        return Answer("No comparison", _unbroken(f"Only the flat CNN was trained: it {named}."))
    findings = [_finding(comparison, row) for row in rows]
    success = [f"{row.name} {percent(row.msr.mean)} % ({_size(row.difference)})" for row in rows]
    verdict = findings[0].verdict
    if len(findings) > 1:
        verdict = "; ".join(f"{one.run}: {_lowered(one.verdict)}" for one in findings)
    return Answer(
        verdict=verdict,
        sentence=_unbroken(f"The flat CNN {named}, {', '.join(success)}."),
        findings=tuple(findings),
        sure=_unbroken(_sure(comparison)),
    )


def _finding(comparison: Comparison, row: Summary) -> Finding:
    flat, contest = comparison.flat, comparison.contest(row)
    sentences = [
        _help(row, comparison.full(row)),
        _where(flat, row),
        _routing(row),
        _cost(flat, row),
        _random(contest),
        _equals(contest),
    ]
    text = " ".join(sentence for sentence in sentences if sentence)
    return Finding(row.run.name, _verdict(row, contest), _unbroken(text))


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


def _verdict(row: Summary, contest: Contest | None) -> str:
    difference = row.difference
    if difference is None or not difference.excludes_zero:
        return "Not measurably"
    if difference.mean < 0:
        return "No"
    if contest is None:
        return "Yes"
    if contest.against_random is not None and not _beats(contest.against_random):
        return "Yes, but random groups do as well"
    if not all(_beats(one.difference) for one in contest.equals):
        return "Yes, but a control of equal cost does as well"
    return "Yes"


def _beats(difference: Interval) -> bool:
    return difference.excludes_zero and difference.mean > 0


def _help(row: Summary, full: Summary | None) -> str:
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


def _where(flat: Summary, row: Summary) -> str:
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


def _shared(values: Sequence[float], flat: Summary, row: Summary) -> float:
    """The mean of what flat has, over the seeds that the run has too."""
    pairs = zip(flat.answers, values, strict=True)
    return float(np.mean([value for seed, value in pairs if seed in row.answers]))


def _routing(row: Summary) -> str:
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


def _cost(flat: Summary, row: Summary) -> str:
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


def _random(contest: Contest | None) -> str:
    difference = contest.against_random if contest else None
    if contest is None or difference is None:
        return "It was not compared with random groups."
    drawn = contest.random
    sizes = "the same" if all(one.is_same_shape for one in drawn) else "other"
    draws = f", {len(drawn)} draws," if len(drawn) > 1 else ""
    reach = percent(float(np.mean([one.summary.msr.mean for one in drawn])))
    said = f"Random groups of {sizes} sizes{draws} reach {reach} %"
    if not difference.excludes_zero:
        return f"{said}: it does not measurably beat them ({_size(difference)})."
    verb = "beats them" if difference.mean > 0 else "does worse"
    return f"{said}: it {verb} ({_size(difference)})."


def _equals(contest: Contest | None) -> str:
    found = contest.equals if contest else ()
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


def _against(one: Control) -> str:
    flag = ""
    if one.match is None:
        flag = "; whether its cost is equal was not recorded"
    elif not one.match.is_equal:
        flag = f"; its cost is {one.match.ratio:.2f} times, not equal"
    return f"{kind(one.equal, one.summary.run.method)} ({_brief(one.difference)}{flag})"


def _sure(comparison: Comparison) -> str:
    seeds = len(comparison.flat.answers)
    parts = [
        f"{row.name} has {len(row.answers)} of them"
        for row in comparison.leading
        if len(row.answers) < seeds
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
