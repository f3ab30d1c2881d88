"""Our figures in the form of the other four papers' tables, beside theirs."""

from collections.abc import Sequence

from train.page import published
from train.page.comparison import Comparison
from train.page.markup import (
    Html,
    count,
    element,
    join,
    paragraph,
    percent,
    seconds,
    table,
)
from train.page.results import Results, Run, Trained
from train.page.summary import Summary


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
        (f"published, n = {row.n}", row.backbone, f"{row.flat:.2f}", f"{row.full:.2f}",
         f"{row.route:.2f}", f"{row.full - row.flat:+.2f}", f"{row.route - row.flat:+.2f}")
        for row in theirs
    ]  # fmt: skip
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
        ("HierNet", "backbone", "flat, %", "in full, %", "by route, %",
         "gain in full, points", "gain by route, points"),
        rows,
        caption="Table of the HierNet paper (ReLU), the row of our backbone or else the smallest, "
        "and ours below it, mean over seeds, gained over the flat network of the same seed.",
        words=(0, 1),
        marked=range(len(theirs), len(rows)),
    )  # fmt: skip
    here = f"Flat: {_epochs(found.flat)}. HierNet: {_epochs(ours[0].run)}."
    return _part("HierNet", published.HIERNET_DATA, here, made)


def _hdcnn(found: Results, comparison: Comparison, ours: Sequence[Summary]) -> Html:
    """HD-CNN's table of errors, and ours below: flat, and each run as it predicts and in full."""
    block = published.HDCNN[0]
    rows: list[tuple[str, ...]] = [
        (row.model, _one(row.ten_views), _one(row.one_view), _less(block.ten_views, row.ten_views),
         _less(block.one_view, row.one_view))
        for row in published.HDCNN
    ]  # fmt: skip
    flat = 100 * (1 - comparison.flat.msr.mean)
    theirs = len(rows)
    rows.append(("here, flat", "", _one(flat), "", _less(flat, flat)))
    for row in ours:
        for one in (row, comparison.full(row)):
            if one is not None:
                error = _one(100 * (1 - one.msr.mean))
                rows.append((f"here ({one.name})", "", error, "", _gain(one)))
    made = table(
        ("HD-CNN", "error, ten views, %", "error, one view, %", "less than flat, ten, points",
         "less than flat, one, points"),
        rows,
        caption="HD-CNN's errors on CIFAR-100, and ours below, mean over seeds, less than the flat "
        "network of the same seed. The paper's flat network is its building block.",
        words=(0,),
        marked=range(theirs, len(rows)),
    )  # fmt: skip
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
        own = _trained(row.run).model["params"]["merged"]
        told = [one.metrics.get("router_accuracy") for one in row.run.seeds.values()]
        known = [float(value) for value in told if value is not None]
        took = row.cost.seconds_total.mean
        rows.append(
            (
                row.run.name,
                "apart" if own["separate"] else str(own["merge"]),
                percent(1 - row.msr.mean),
                percent(1 - sum(known) / len(known)) if known else "",
                seconds(took),
                f"{took / base:.2f}" if base else "",
            )
        )
    made = table(
        ("here", "stages shared", "error of labels, %", "error of categories, %", "training, s",
         "of networks apart"),
        rows,
        caption="Merged networks here, mean over seeds, each adapted with the alpha that validation "
        "pictures chose or its run gives. Apart: two networks, one after the other.",
        words=(0, 1),
        marked=range(len(rows)),
    )  # fmt: skip
    claims = element("ul", *(element("li", claim) for claim in published.MERGED_CLAIMS))
    here = f"Flat: {_epochs(found.flat)}. Merged: {_epochs(ours[0].run)}."
    return join(
        [_part("Merged networks", published.MERGED_DATA, here, made), paragraph("It says:"), claims]
    )


def _dhnn(found: Results, comparison: Comparison, ours: Sequence[Summary]) -> Html:
    """DHNN's scores of paths and nodes, and ours below."""
    rows: list[tuple[str, ...]] = [
        (row.data, row.model, f"{row.path:.1f}", f"{row.node:.1f}", f"{row.node - row.path:+.1f}")
        for row in published.DHNN
    ]
    theirs = len(rows)
    for row in (comparison.flat, *ours):
        if row.node_f1 is not None:
            path, node = 100 * row.path_f1.mean, 100 * row.node_f1.mean
            rows.append(
                ("here, F1", row.run.name, f"{path:.1f}", f"{node:.1f}", f"{node - path:+.1f}")
            )
    made = table(
        ("data, score", "network", "paths, %", "nodes, %", "nodes - paths, points"),
        rows,
        caption="DHNN's scores, and ours below, mean over seeds, in the tree that the data tells. A "
        "path is right as a whole; a node, where it lies on the true path.",
        words=(0, 1),
        marked=range(theirs, len(rows)),
    )
    here = f"Flat: {_epochs(found.flat)}. DHNN: {_epochs(ours[0].run)}."
    return _part("DHNN", published.DHNN_DATA, here, made)


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
