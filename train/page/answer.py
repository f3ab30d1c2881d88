"""The question of the report, answered in one sentence that the numbers write themselves."""

from dataclasses import dataclass

from train.page.comparison import Comparison, Summary
from train.page.markup import between, count, percent, points
from train.page.statistics import Interval

# A difference below the resolution of the figures that are printed is no difference.
_VISIBLE = 0.0005
_FEWEST_SEEDS = 3  # the least for a result (methods.md 7.4)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What the report says first.

    `verdict` is one word or two, `sentence` the whole answer, `facts` are pairs of a question
    and what the numbers say to it.
    """

    verdict: str
    sentence: str
    facts: tuple[tuple[str, str], ...]


def write(comparison: Comparison, *, images: int) -> Answer:
    """Returns the answer; `images` is the number of test pictures."""
    flat, main = comparison.flat, comparison.main
    if main is None or main.difference is None:
        return Answer(
            verdict="No comparison",
            sentence=(
                f"Only the flat CNN was trained: it names {percent(flat.msr.mean)} % of "
                f"{count(images)} test pictures rightly."
            ),
            facts=(),
        )
    verdict = _verdict(comparison, main.difference)
    sentence = (
        f"The hierarchy names {percent(main.msr.mean)} % of {count(images)} test pictures rightly "
        f"and the flat CNN {percent(flat.msr.mean)} %, {_measured(main.difference)}; "
        f"{_where(flat, main)}, costs {_times(main.cost.macs, flat.cost.macs)} the computing per "
        f"picture and {_times(_training(main), _training(flat))} the training time (the flat "
        f"network that finds the clusters counted), and {_control(comparison)}{_seeds(main)}."
    )
    facts = (
        ("Where does it err?", _place(flat, main)),
        ("At what cost?", _cost(flat, main)),
        ("Is it the clusters?", _clusters(comparison)),
        ("How sure is this?", _sure(main)),
    )
    return Answer(
        verdict=verdict,
        sentence=_unbroken(sentence),
        facts=tuple((question, _unbroken(fact)) for question, fact in facts),
    )


def _unbroken(text: str) -> str:
    """No line break between a number and its percent sign."""
    return text.replace(" %", "\u00a0%")


def _verdict(comparison: Comparison, difference: Interval) -> str:
    if not difference.excludes_zero:
        return "Not measurably"
    if difference.mean < 0:
        return "No"
    control = comparison.against_control
    beaten = control is None or (control.excludes_zero and control.mean > 0)
    return "Yes" if beaten else "Yes, but random groups do as well"


def _measured(difference: Interval) -> str:
    size = f"{points(difference.mean)} points, 95 % interval {between(difference)}"
    if difference.excludes_zero:
        return f"a difference of {size}"
    return f"which is within chance ({size})"


def _where(flat: Summary, main: Summary) -> str:
    """Right and wrong add up: what is not gained inside the clusters is gained between them."""
    inside = flat.wrong_inside.mean - main.wrong_inside.mean
    across = flat.wrong_across.mean - main.wrong_across.mean
    changes = [(inside, "inside the clusters"), (across, "between clusters")]
    parts = [
        f"{'gains' if gain > 0 else 'loses'} {percent(abs(gain))} points {where}"
        for gain, where in changes
        if abs(gain) >= _VISIBLE
    ]
    return "it " + ", ".join(parts) if parts else "it errs where the flat one errs"


def _control(comparison: Comparison) -> str:
    control = comparison.against_control
    if control is None:
        return "was not compared with random groups"
    size = f"({points(control.mean)} points, {between(control)})"
    if not control.excludes_zero:
        return f"does not measurably beat random groups of the same sizes {size}"
    verb = "beats" if control.mean > 0 else "does worse than"
    return f"{verb} random groups of the same sizes {size}"


def _training(summary: Summary) -> float:
    """Seconds of everything that must be trained, the flat network of the clusters included."""
    clustering = summary.cost.seconds_clustering
    return summary.cost.seconds_total.mean + (clustering.mean if clustering else 0.0)


def _times(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f} times" if theirs else "an unknown multiple of"


def _seeds(main: Summary) -> str:
    return "; this is one seed" if len(main.msr.values) == 1 else ""


def _place(flat: Summary, main: Summary) -> str:
    return (
        f"In the right reference cluster but wrong: {percent(flat.wrong_inside.mean)} % of the "
        f"pictures flat, {percent(main.wrong_inside.mean)} % hierarchy. In another cluster: "
        f"{percent(flat.wrong_across.mean)} % flat, {percent(main.wrong_across.mean)} % hierarchy."
    )


def _cost(flat: Summary, main: Summary) -> str:
    return (
        f"{_times(main.cost.macs, flat.cost.macs)} the multiply-accumulates of a picture, "
        f"{_times(main.cost.params, flat.cost.params)} the parameters, "
        f"{_times(_training(main), _training(flat))} the seconds of training with the flat "
        "network that finds the clusters, "
        f"{_times(main.cost.seconds_total.mean, flat.cost.seconds_total.mean)} without it."
    )


def _clusters(comparison: Comparison) -> str:
    control, interval = comparison.control, comparison.against_control
    if control is None or interval is None:
        return "Not known: no run with random groups."
    said = "Yes" if interval.excludes_zero and interval.mean > 0 else "Not shown"
    side = "above" if interval.mean >= 0 else "below"
    return (
        f"{said}: random groups of the same sizes reach {percent(control.msr.mean)} %; the found "
        f"ones lie {percent(abs(interval.mean))} points {side} (95 % interval "
        f"{between(interval)})."
    )


def _sure(main: Summary) -> str:
    seeds = len(main.msr.values)
    pairs = "; ".join(
        f"seed {seed}: {one.fixed} fixed, {one.broken} broken" for seed, one in main.flips.items()
    )
    if seeds == 1:
        return (
            f"One seed: the interval covers the choice of test pictures, not the luck of a "
            f"training ({pairs}). Take {_FEWEST_SEEDS} or more for a result."
        )
    few = f" Fewer than {_FEWEST_SEEDS} are no result yet." if seeds < _FEWEST_SEEDS else ""
    return f"{seeds} seeds ({pairs}).{few}"
