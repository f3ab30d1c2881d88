"""Our figures in the form of the other four papers' tables, beside theirs."""

from collections.abc import Mapping, Sequence

from train.page import published
from train.page.comparison import Comparison
from train.page.markup import (
    Html,
    Text,
    count,
    element,
    join,
    paragraph,
    percent,
    seconds,
    table,
)
from train.page.published import Claim
from train.page.results import Results, Run, Trained
from train.page.sections import spread
from train.page.summary import Summary

_SHARING = ("merge", "separate")  # the parameters of `merged` that say what is shared


def write(found: Results, comparison: Comparison) -> list[Html]:
    """Returns what stands beside each paper of which a method ran, in the order of the README."""
    shown = {"hiernet": _hiernet, "hdcnn": _hdcnn, "merged": _merged, "dhnn": _dhnn}
    rows = {
        method: [row for row in comparison.hierarchies if row.run.method == method]
        for method in shown
    }
    return [shown[method](found, comparison, ours) for method, ours in rows.items() if ours]


def _hiernet(found: Results, comparison: Comparison, ours: Sequence[Summary]) -> Html:
    """HierNet's row of the same depth, or its smallest, over ours."""
    name = _trained(ours[0].run).model.get("backbone", "not recorded")
    theirs = [row for row in published.HIERNET if row.backbone == name] or [published.HIERNET[0]]
    flat = comparison.flat.msr.mean
    rows: list[tuple[str, ...]] = [
        (
            f"published, n = {row.n}",
            row.backbone,
            f"{row.flat:.2f}",
            f"{row.full:.2f}",
            f"{row.route:.2f}",
            f"{row.full - row.flat:+.2f}",
            f"{row.route - row.flat:+.2f}",
        )
        for row in theirs
    ]
    for row in ours:
        full = comparison.full(row)
        rows.append(
            (
                f"here ({row.run.name})",
                str(_trained(row.run).model.get("backbone", "")),
                percent(flat),
                "" if full is None else percent(full.msr.mean),
                percent(row.msr.mean),
                "" if full is None else _gain(full),
                _gain(row),
            )
        )
    made = table(
        (
            "HierNet",
            "backbone",
            "flat, %",
            "in full, %",
            "by route, %",
            "gain in full, points",
            "gain by route, points",
        ),
        rows,
        caption="Table of the HierNet paper (ReLU), the row of our backbone or else the smallest, "
        "and ours below it, mean over seeds, gained over the flat network of the same seed.",
        words=(0, 1),
        marked=range(len(theirs), len(rows)),
    )
    here = f"Flat: {_epochs(found.flat)}. HierNet: {_epochs(ours[0].run)}."
    return _part("HierNet", published.HIERNET_DATA, here, made)


def _hdcnn(found: Results, comparison: Comparison, ours: Sequence[Summary]) -> Html:
    """HD-CNN's table of errors, and ours below: flat, and each run as it predicts and in full."""
    block = published.HDCNN[0]
    rows: list[tuple[str, ...]] = [
        (
            row.model,
            _one(row.ten_views),
            _one(row.one_view),
            _less(block.ten_views, row.ten_views),
            _less(block.one_view, row.one_view),
            "" if row.memory is None else count(row.memory),
            _one(row.seconds),
        )
        for row in published.HDCNN
    ]
    flat = 100 * (1 - comparison.flat.msr.mean)
    theirs = len(rows)
    rows.append(("here, flat", "", _one(flat), "", _less(flat, flat), "", ""))
    for row in ours:
        for one in (row, comparison.full(row)):
            if one is not None:
                error = _one(100 * (1 - one.msr.mean))
                rows.append((f"here ({one.name})", "", error, "", _gain(one), "", ""))
    made = table(
        (
            "HD-CNN",
            "error, ten views, %",
            "error, one view, %",
            "less than flat, ten, points",
            "less than flat, one, points",
            "memory, MB",
            "time, s",
        ),
        rows,
        caption="HD-CNN's errors on CIFAR-100, and ours below, mean over seeds, less than the flat "
        "network of the same seed. The paper's flat network is its building block. Memory and time "
        "are of a prediction on its machine; what ours takes stands in the table of costs.",
        words=(0,),
        marked=range(theirs, len(rows)),
    )
    here = f"Flat: {_epochs(found.flat)}. HD-CNN: {_epochs(ours[0].run)}, all networks together."
    return _part("HD-CNN", published.HDCNN_DATA, here, made)


def _merged(found: Results, comparison: Comparison, ours: Sequence[Summary]) -> Html:
    """The merged networks' claims, for no table is printed, and what ours did."""
    apart = [row for row in ours if _trained(row.run).model["params"]["merged"]["separate"]]
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
    made = table(
        (
            "here",
            "stages shared",
            "error of labels, %",
            "error of categories, %",
            "training, s",
            "of networks apart",
        ),
        rows,
        caption="Merged networks here, mean over seeds, each adapted with the alpha that validation "
        "images chose or its run gives. Apart: two networks, one after the other.",
        words=(0, 1),
        marked=range(len(rows)),
    )
    runs = _decisive(ours)
    claims = table(
        ("claim", "it says", "here"),
        [
            (str(number), claim.text, _verdict(claim, runs))
            for number, claim in enumerate(published.MERGED_CLAIMS, start=1)
        ],
        caption="The claims of the merged networks' paper, and what the runs above say of them, "
        "with their own alpha: errors and seconds in the order of the claim, of runs alike in all "
        "else. Yes and no compare means over seeds and test nothing; where the claim is that both "
        "are as good, the figures stand alone. What is claimed of alpha, the benchmark `adaptation` "
        "measures.",
        words=(0, 1, 2),
    )
    here = f"Flat: {_epochs(found.flat)}. Merged: {_epochs(ours[0].run)}."
    return join([_part("Merged networks", published.MERGED_DATA, here, made), claims])


def _decisive(ours: Sequence[Summary]) -> dict[str, Summary]:
    """The runs that differ from the first in what they share alone, under the names of a `Claim`."""
    runs: dict[str, Summary] = {}
    for row in ours:
        if _alike(row) == _alike(ours[0]):
            runs.setdefault(_sharing(row), row)
    return runs


def _alike(row: Summary) -> dict[str, object]:
    """What runs must have in common to be compared: all but what their branches share."""
    params = _trained(row.run).model["params"]
    own = {name: value for name, value in params["merged"].items() if name not in _SHARING}
    others = {name: value for name, value in params.items() if name != "merged"}
    return {**own, **others, "grouping": row.run.grouping, "seeds": (*row.run.seeds,)}


def _verdict(claim: Claim, runs: Mapping[str, Summary]) -> str:
    if not claim.figures or not {*claim.lower, *claim.higher} <= runs.keys():
        return ""
    said = []
    for name in claim.figures:
        sides = [[_figure(runs[run], name) for run in side] for side in (claim.lower, claim.higher)]
        known = [[value for value in side if value is not None] for side in sides]
        if known == sides:
            shown = seconds if name == "seconds" else percent
            texts = " against ".join(" and ".join(map(shown, side)) for side in known)
            holds = "yes, " if max(known[0]) < min(known[1]) else "no, "
            unit = "s" if name == "seconds" else "%"
            said.append(f"{name}: {'' if claim.is_equal else holds}{texts}\u00a0{unit}")
    return "; ".join(said)


def _figure(row: Summary, name: str) -> float | None:
    """One of the figures of a `Claim`, mean over seeds; None where it was not measured."""
    if name == "seconds":
        return row.cost.seconds_total.mean
    if name == "labels":
        return 1 - row.msr.mean
    told = [one.metrics.get("router_accuracy") for one in row.run.seeds.values()]
    known = [float(value) for value in told if value is not None]
    return 1 - sum(known) / len(known) if known else None


def _sharing(row: Summary) -> str:
    own = _trained(row.run).model["params"]["merged"]
    return "apart" if own["separate"] else str(own["merge"])


def _dhnn(found: Results, comparison: Comparison, ours: Sequence[Summary]) -> Html:
    """DHNN's F1 and accuracies of paths and nodes, ours below each."""
    rows = (comparison.flat, *ours)
    here = f"Flat: {_epochs(found.flat)}. DHNN: {_epochs(ours[0].run)}."
    made = [_f1(rows), paragraph(published.DHNN_DOUBT, class_="note"), _accuracy(rows)]
    return _part("DHNN", published.DHNN_DATA, here, join(made))


def _f1(ours: Sequence[Summary]) -> Html:
    """A row for each model and a column for each backbone, ours in a column of its own."""
    rows: list[tuple[Text, ...]] = [
        (model, *(_scored(cell) for cell in cells), "") for model, cells in published.DHNN.items()
    ]
    theirs = len(rows)
    nothing = [""] * len(published.DHNN_BACKBONES)
    for row in ours:
        if row.node_f1 is not None:
            name = _trained(row.run).model.get("backbone", "not recorded")
            cell = _above(spread(row.path_f1, digits=2), spread(row.node_f1, digits=2))
            rows.append((f"here ({row.run.name}, {name})", *nothing, cell))
    return table(
        ("Open Images", *published.DHNN_BACKBONES, "here"),
        rows,
        caption="DHNN's F1 in percent, paths over nodes, mean ± standard deviation; ours below, in "
        "the last column, over seeds and in the tree that the data tells.",
        marked=range(theirs, len(rows)),
    )


def _scored(cell: published.Scored) -> Html:
    mark = " *" if cell.path > cell.node else ""
    path, node = (
        f"{cell.path:.2f} ± {cell.path_deviation:.2f}",
        f"{cell.node:.2f} ± {cell.node_deviation:.2f}",
    )
    return _above(path, node + mark)


def _above(path: str, node: str) -> Html:
    return join([f"{path} /", Html("<br>"), node])


def _accuracy(ours: Sequence[Summary]) -> Html:
    rows: list[tuple[str, ...]] = [
        (row.model, f"{row.path:.1f}", f"{row.node:.1f}", f"{row.node - row.path:+.1f}")
        for row in published.DHNN_REAL
    ]
    theirs = len(rows)
    for row in ours:
        if row.node_accuracy is not None:
            more = 100 * (row.node_accuracy.mean - row.msr.mean)
            rows.append(
                (
                    f"here ({row.run.name})",
                    spread(row.msr),
                    spread(row.node_accuracy),
                    f"{more:+.1f}",
                )
            )
    return table(
        ("REAL", "paths, %", "nodes, %", "nodes - paths, points"),
        rows,
        caption="DHNN's accuracies, and ours below, mean over seeds, in the tree that the data tells. "
        "A path is right as a whole, which is MSR; nodes are judged level by level, and a path that "
        "ends early repeats its leaf.",
        marked=range(theirs, len(rows)),
    )


def _part(name: str, there: str, here: str, made: Html) -> Html:
    said = [paragraph("There: ", there), paragraph("Here: as above. ", here)]
    return join([element("h3", name), *said, made])


def _one(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _gain(row: Summary) -> str:
    """Points over the flat network of the same seed, mean over seeds."""
    return "" if row.difference is None else f"{100 * row.difference.mean:+.2f}"


def _less(block: float | None, error: float | None) -> str:
    return "" if block is None or error is None else f"{block - error:+.2f}"


def _epochs(run: Run) -> str:
    epochs = sum(int(one["epochs"]) for one in _trained(run).fit["networks"])
    return f"{count(epochs)} epochs"


def _trained(run: Run) -> Trained:
    return next(iter(run.seeds.values()))
