"""The answer of the report, in sentences written from the numbers of a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.page.comparison import RunComparison
from train.page.controls import ControlGroup, ControlResult, kind
from train.page.differences import PairedDifference
from train.page.formatting import brief, count, described, percent
from train.page.summary import RunSummary

# Methods that follow one route by default. `merged`, `hdcnn` and `dhnn` combine several outputs.
_ROUTED = ("uppsala", "hiernet")
# With fewer, a verdict is provisional: with two, Student's t interval reaches 12.7 standard errors
# to each side.
_FEWEST_SEEDS = 3
_ALONE = "One seed, no conclusion"


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

    `verdict` is a few words, `sentence` the accuracy of flat and of each method, `methods` the
    sentences on each method, `certainty` the number of seeds and the meaning of the intervals.
    """

    verdict: str
    sentence: str
    methods: tuple[MethodAnswer, ...] = ()
    certainty: str = ""


def write(comparison: RunComparison, *, images: int) -> ReportAnswer:
    """
    Returns the answer; `images` is the number of test images.

    A run is called better or worse than another only where the interval over test images and,
    over two or more seeds, the interval over seeds exclude zero. With one seed no run is, and
    with two the verdict is called provisional.
    """
    flat, rows = comparison.flat, comparison.leading
    accuracy = f"Accuracy on {count(images)} test images: flat CNN {percent(flat.msr.mean)} %"
    if not rows:
        return ReportAnswer(
            "No comparison", _unbroken(f"Only the flat CNN was trained. {accuracy}.")
        )
    methods = tuple(_method(comparison, row) for row in rows)
    verdict = methods[0].verdict
    if len(methods) > 1:
        verdict = "; ".join(f"{each.run}: {_lowered(each.verdict)}" for each in methods)
    others = [_accuracy(row) for row in rows]
    return ReportAnswer(
        verdict=verdict,
        sentence=_unbroken(f"{'; '.join([accuracy, *others])}."),
        methods=methods,
        certainty=_unbroken(_certainty(comparison)),
    )


def _accuracy(row: RunSummary) -> str:
    text = f"{row.name} {percent(row.msr.mean)} %"
    return f"{text}, {described(row.difference)}" if row.difference else text


def _method(comparison: RunComparison, row: RunSummary) -> MethodAnswer:
    flat, group = comparison.flat, comparison.control_group(row)
    sentences = [
        _against_flat(row),
        _full(comparison.full(row)),
        _mistakes(row),
        _routing(row),
        _cost(flat, row),
        _against_random(row, group),
        *_against_equals(row, group),
    ]
    return MethodAnswer(
        run=row.run.name,
        verdict=_verdict(row, group),
        sentences=tuple(_unbroken(sentence) for sentence in sentences if sentence),
    )


def _unbroken(text: str) -> str:
    """No line break between a number and its percent sign."""
    return text.replace(" %", "\u00a0%")


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def _verdict(row: RunSummary, group: ControlGroup | None) -> str:
    difference = row.difference
    if difference is None or difference.seeds < 2:
        return _ALONE
    text = "No measurable difference"
    if difference.is_worse:
        text = "No"
    elif difference.is_better:
        text = f"Yes{_reservation(group)}" if group else "Yes"
    provisional = f" (provisional: {difference.seeds} seeds)"
    return text + provisional if difference.seeds < _FEWEST_SEEDS else text


def _reservation(group: ControlGroup) -> str:
    """What takes back a difference to flat: a control that the run is not better than."""
    if group.against_random is not None and not group.against_random.is_better:
        return ", but no measurable advantage over random groups"
    if not all(control.difference.is_better for control in group.equals):
        return ", but no measurable advantage over a control of equal cost"
    return ""


def _against_flat(row: RunSummary) -> str:
    return _compared(row.run.name, row.difference, "flat") if row.difference else ""


def _full(full: RunSummary | None) -> str:
    if full is None or full.difference is None:
        return ""
    return (
        f"With the forward pass over all branches (full), accuracy is {percent(full.msr.mean)} %, "
        f"which is {brief(full.difference)} points compared with flat."
    )


def _compared(name: str, difference: PairedDifference, other: str) -> str:
    """One sentence on a difference, with its seeds and its intervals."""
    if difference.seeds < 2:
        return f"Difference to {other}: {described(difference)}."
    if difference.is_better:
        return f"{name} is better than {other}: {described(difference)}."
    if difference.is_worse:
        return f"{name} is worse than {other}: {described(difference)}."
    return (
        f"No conclusive difference from {other}: {described(difference)}; {_with_zero(difference)}."
    )


def _with_zero(difference: PairedDifference) -> str:
    """Which interval includes zero."""
    intervals = {"images": difference.over_images, "seeds": difference.over_seeds}
    names = [name for name, each in intervals.items() if each and not each.excludes_zero]
    if len(names) > 1:
        return "both intervals include zero"
    return f"the interval over {''.join(names)} includes zero"


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
    metrics = [trained.metrics for trained in row.run.seeds.values()]
    names = ("router_accuracy", "oracle_msr", "route_msr")
    if any(getattr(each, name) is None for each in metrics for name in names):
        return ""
    right, perfect, route = (
        float(np.mean([getattr(each, name) for each in metrics])) for name in names
    )
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


def _against_random(row: RunSummary, group: ControlGroup | None) -> str:
    difference = group.against_random if group else None
    if group is None or difference is None:
        return f"{row.run.name} was not compared with random groups."
    random = group.random
    sizes = "the same" if all(control.is_same_shape for control in random) else "other"
    draws = f" ({len(random)} draws)" if len(random) > 1 else ""
    accuracy = percent(float(np.mean([control.summary.msr.mean for control in random])))
    compared = _compared(row.run.name, difference, "random groups")
    return f"Random groups of {sizes} sizes{draws} have an accuracy of {accuracy} %. {compared}"


def _against_equals(row: RunSummary, group: ControlGroup | None) -> list[str]:
    """A sentence for each kind of outcome, with all controls of equal cost that had it."""
    name, controls = row.run.name, group.equals if group else ()
    if not controls:
        return [f"{name} was not compared with runs of equal cost."]
    # Each control is in exactly one of these lists.
    lists = {
        f"{name} is better than": [each for each in controls if each.difference.is_better],
        "No conclusive difference from": [
            each
            for each in controls
            if each.difference.seeds > 1 and not each.difference.is_conclusive
        ],
        f"{name} is worse than": [each for each in controls if each.difference.is_worse],
        "Difference to": [each for each in controls if each.difference.seeds < 2],
    }
    return [
        f"{words} {', '.join(_control(each, name) for each in listed)}."
        for words, listed in lists.items()
        if listed
    ]


def _control(control: ControlResult, run: str) -> str:
    """A control of `run` in a list: what it is, and the difference."""
    flag = ""
    if control.match is None:
        flag = "; whether its cost is equal was not recorded"
    elif not control.match.is_equal:
        flag = f"; its cost is {control.match.ratio:.2f} times that of {run}, so not equal"
    name = kind(control.equal, control.summary.run.method)
    return f"{name} ({brief(control.difference)}{flag})"


def _certainty(comparison: RunComparison) -> str:
    seeds = len(comparison.flat.predictions)
    clusters = "Reference clusters are the modularity clusters of each seed."
    if seeds == 1:
        return (
            "This is one seed: the intervals cover the choice of test images and not the variation "
            f"between training runs, so no conclusion is drawn. Train {_FEWEST_SEEDS} or more seeds "
            f"for a result. {clusters}"
        )
    return (
        f"{_seeds(comparison.leading, seeds)} A difference is called better or worse only where two "
        "95 % intervals exclude zero: the paired bootstrap over test images, and Student's t over "
        "seeds. The intervals are not corrected for multiple comparisons: about 1 in 20 misses "
        f"the true value. {clusters}"
    )


def _seeds(rows: Sequence[RunSummary], seeds: int) -> str:
    fewer = [
        f"; {row.name} has {len(row.predictions)} of them"
        for row in rows
        if len(row.predictions) < seeds
    ]
    few = ""
    if min(seeds, *(len(row.predictions) for row in rows)) < _FEWEST_SEEDS:
        few = f" With fewer than {_FEWEST_SEEDS} seeds a verdict is provisional."
    return f"{seeds} seeds{''.join(fewer)}.{few}"
