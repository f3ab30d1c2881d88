"""The claims of the merged networks' paper (Dutt and others 2017), and what our runs measured."""

from collections.abc import Mapping, Sequence

from train.page import published
from train.page.blocks import ReportTable, table
from train.page.comparison import RunComparison
from train.page.formatting import percent, seconds
from train.page.papers.part import PaperPart, epochs
from train.page.published import MergedClaim
from train.page.results import Results
from train.page.summary import RunSummary

_SHARING = ("merge", "separate")  # the parameters of `merged` that decide what is shared


def part(results: Results, comparison: RunComparison, ours: Sequence[RunSummary]) -> PaperPart:
    """Returns errors and seconds of the runs `ours`, and the paper's claims beside them."""
    return PaperPart(
        name="Merged networks",
        there=published.MERGED_DATA,
        here=f"Flat: {epochs(results.flat)}. Merged: {epochs(ours[0].run)}.",
        tables=(_errors(comparison, ours), _claims(ours)),
    )


def _errors(comparison: RunComparison, ours: Sequence[RunSummary]) -> ReportTable:
    apart = [row for row in ours if _own(row)["separate"]]
    base = apart[0].cost.seconds_total.mean if apart else None
    flat = comparison.flat
    rows: list[tuple[str, ...]] = [
        ("flat", "", percent(1 - flat.msr.mean), "", seconds(flat.cost.seconds_total.mean), "")
    ]
    for row in ours:
        took = row.cost.seconds_total.mean
        rows.append(
            (
                row.run.name,
                _sharing(row),
                percent(_figure(row, "labels")),
                percent(_figure(row, "categories")),
                seconds(took),
                f"{took / base:.2f}" if base else "",
            )
        )
    head = (
        "here",
        "stages shared",
        "error of labels, %",
        "error of categories, %",
        "training, s",
        "training / training of apart",
    )
    return table(
        head,
        rows,
        caption="Merged networks here, means over seeds, each adapted with the alpha that the "
        "validation images chose or that its run sets. Apart: two networks trained one after the "
        "other.",
        words=(0, 1),
        marked=range(len(rows)),
    )


def _claims(ours: Sequence[RunSummary]) -> ReportTable:
    runs = _decisive(ours)
    return table(
        ("claim", "the paper's claim", "here"),
        [
            (str(number), claim.text, _verdict(claim, runs))
            for number, claim in enumerate(published.MERGED_CLAIMS, start=1)
        ],
        caption="The claims of the merged networks' paper, and what the runs above measured, with "
        "their own alpha: errors and seconds in the order of the claim, of runs that are alike in "
        "everything else. Yes and no compare means over seeds and test nothing; where the claim is "
        "that both are as good, the figures stand alone. Claims on alpha are measured by the "
        "benchmark `adaptation`.",
        words=(0, 1, 2),
    )


def _decisive(ours: Sequence[RunSummary]) -> dict[str, RunSummary]:
    """The runs that differ from the first in what they share alone, named as in a `MergedClaim`."""
    runs: dict[str, RunSummary] = {}
    for row in ours:
        if _settings(row) == _settings(ours[0]):
            runs.setdefault(_sharing(row), row)
    return runs


def _settings(row: RunSummary) -> dict[str, object]:
    """What runs must have in common to be compared: everything but what their branches share."""
    params = row.run.first.model["params"]
    own = {name: value for name, value in _own(row).items() if name not in _SHARING}
    others = {name: value for name, value in params.items() if name != "merged"}
    return {**own, **others, "grouping": row.run.grouping, "seeds": (*row.run.seeds,)}


def _verdict(claim: MergedClaim, runs: Mapping[str, RunSummary]) -> str:
    if not claim.figures or not {*claim.lower, *claim.higher} <= runs.keys():
        return ""
    texts = []
    for name in claim.figures:
        sides = [[_figure(runs[run], name) for run in side] for side in (claim.lower, claim.higher)]
        known = [[value for value in side if value is not None] for side in sides]
        if known == sides:
            as_text = seconds if name == "seconds" else percent
            values = " against ".join(" and ".join(map(as_text, side)) for side in known)
            holds = "yes, " if max(known[0]) < min(known[1]) else "no, "
            unit = "s" if name == "seconds" else "%"
            texts.append(f"{name}: {'' if claim.is_equal else holds}{values}\u00a0{unit}")
    return "; ".join(texts)


def _figure(row: RunSummary, name: str) -> float | None:
    """One of the figures of a `MergedClaim`, mean over seeds; None where it was not measured."""
    if name == "seconds":
        return row.cost.seconds_total.mean
    if name == "labels":
        return 1 - row.msr.mean
    measured = [trained.metrics.get("router_accuracy") for trained in row.run.seeds.values()]
    known = [float(value) for value in measured if value is not None]
    return 1 - sum(known) / len(known) if known else None


def _sharing(row: RunSummary) -> str:
    return "apart" if _own(row)["separate"] else str(_own(row)["merge"])


def _own(row: RunSummary) -> Mapping[str, object]:
    """The section `merged` of a run's parameters."""
    section: Mapping[str, object] = row.run.first.model["params"]["merged"]
    return section
