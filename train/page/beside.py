"""Our figures in the form of the Uppsala report's two tables and of HierNet's, beside theirs."""

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np

from train.components import hierarchy
from train.page import published
from train.page.comparison import Comparison
from train.page.markup import (
    Html,
    count,
    element,
    join,
    paragraph,
    percent,
    points,
    seconds,
    table,
)
from train.page.published import Seconds, Success
from train.page.results import Results, Run, Trained
from train.page.sections import Section
from train.page.summary import Summary

_BRANCHED = "hiernet"


def section(found: Results, comparison: Comparison) -> Section:
    """Returns both tables of the report with our rows below theirs, and HierNet's where it ran."""
    body = [
        paragraph("There: ", published.DATA),
        paragraph("Here: ", _data(found), " Side by side, not against each other."),
        _success(comparison, images=len(found.white)),
        _seconds(found, comparison),
        element("ul", *(element("li", doubt) for doubt in published.DOUBTS), class_="note"),
        _hiernet(found, comparison),
    ]
    return Section("published", "Beside the papers", join(body))


def success(row: Summary) -> Success:
    """
    Returns a run as a row of the report's Table 1, in percent.

    MICP is that of the clusters which the run is built on; of flat, of the reference clusters.
    """
    micp = row.micp if row.micp_own is None else row.micp_own
    return Success(
        architecture=_architecture(row.run),
        data="here",
        msr=100 * row.msr.mean,
        micp=100 * micp.mean,
        msr_white=None if row.msr_white is None else 100 * row.msr_white.mean,
    )


def times(run: Run, flat: Run) -> Seconds:
    """
    Returns a run as a row of the report's Table 2, means over its seeds.

    A network that is no node of the run's tree found clusters: its time stands apart.
    """
    rows = [_times(trained, flat.seeds[seed]) for seed, trained in run.seeds.items()]

    def mean(name: str) -> float | None:
        values = [value for row in rows if (value := row[name]) is not None]
        return float(np.mean(values)) if values else None

    return Seconds(
        kind=f"here, {'deep' if _depth(run) > 2 else 'ordinary'} ({run.name})",
        flat=mean("flat") or 0.0,
        root=mean("root"),
        subnetworks_mean=mean("mean"),
        subnetworks_max=mean("max"),
        total=mean("total") or 0.0,
        parallel=mean("parallel") or 0.0,
        finding=mean("finding") or 0.0,
        finding_parallel=mean("finding_parallel") or 0.0,
    )


def _times(trained: Trained, flat: Trained) -> dict[str, float | None]:
    graph = hierarchy.from_json(trained.model["hierarchy"])
    inside = {node for node, data in graph.nodes(data=True) if data["net"] is not None}
    networks = trained.fit["networks"]
    took = {one["network"]: float(one["seconds"]) for one in networks}
    own = {name: taken for name, taken in took.items() if name in inside}
    below = [taken for name, taken in own.items() if name != hierarchy.ROOT]
    chain = {name: own.get(name, 0.0) for name in took}
    return {
        "flat": float(flat.fit["total_seconds"]),
        "root": own.get(hierarchy.ROOT) if below else None,  # else all of it is one network
        "mean": float(np.mean(below)) if below else None,
        "max": max(below, default=None),
        "total": sum(own.values()),
        "parallel": _longest(networks, chain),
        "finding": sum(took.values()) - sum(own.values()),
        "finding_parallel": _longest(networks, took) - _longest(networks, chain),
    }


def _longest(networks: list[Mapping[str, Any]], took: Mapping[str, float]) -> float:
    """
    The longest chain of networks that wait for one another.

    A record that does not say what a network waited for is of a root and its subnetworks.
    """
    ends: dict[str | None, float] = {None: 0.0}
    for one in networks:
        name = one["network"]
        above = one.get("waits_for", None if name == hierarchy.ROOT else hierarchy.ROOT)
        ends[name] = ends.get(above, 0.0) + took[name]
    return max(ends.values())


def _depth(run: Run) -> int:
    """Networks on the longest path: flat 1, ordinary 2 (methods.md 2.7)."""
    graph = hierarchy.from_json(next(iter(run.seeds.values())).model["hierarchy"])
    depth: dict[str, int] = {}
    for node in nx.topological_sort(graph):
        above = max((depth[parent] for parent in graph.predecessors(node)), default=0)
        depth[node] = above + (graph.nodes[node]["net"] is not None)
    return max(depth.values())


def _architecture(run: Run) -> str:
    if run.grouping is None:
        return run.name
    return f"{'deep hierarchical' if _depth(run) > 2 else 'hierarchical'} ({run.name})"


def _success(comparison: Comparison, *, images: int) -> Html:
    rows = [*published.SUCCESS, *map(success, (comparison.flat, *comparison.hierarchies))]
    return table(
        ("architecture", "data", "MSR, %", "MICP, %", "MSR white, %", "MSR / MICP, %"),
        [
            (
                row.architecture,
                row.data,
                *(_one(value) for value in (row.msr, row.micp, row.msr_white, row.implied)),
            )
            for row in rows
        ],
        caption="Table 1 of the Uppsala report (n not printed), and ours below it "
        f"(n = {count(images)}, mean over seeds, as each run predicts). MSR / MICP is the implied "
        "success inside the right cluster.",
        words=(0, 1),
        marked=range(len(published.SUCCESS), len(rows)),
    )


def _seconds(found: Results, comparison: Comparison) -> Html:
    ours = [times(row.run, found.flat) for row in comparison.hierarchies]
    rows = [*published.SECONDS, *ours]
    return table(
        ("data, kind", "flat, s", "root, s", "subnetworks, mean / max, s", "total, s",
         "parallel, s", "speed-up, total / parallel", "total with the clusters' networks, s",
         "parallel with them, s", "speed-up with them, total / parallel"),
        [
            (
                row.kind,
                seconds(row.flat),
                "" if row.root is None else seconds(row.root),
                _two(row.subnetworks_mean, row.subnetworks_max),
                seconds(row.total),
                seconds(row.parallel),
                "{:.3f} / {:.3f}".format(*row.speed_ups),
                *map(seconds, row.whole),
                "{:.3f} / {:.3f}".format(*row.whole_speed_ups),
            )
            for row in rows
        ],
        caption="Table 2 of the Uppsala report: seconds of training, and ours below it (mean over "
        "seeds). Parallel: networks that do not wait for one another train side by side.",
        marked=range(len(published.SECONDS), len(rows)),
    )  # fmt: skip


def _two(mean: float | None, longest: float | None) -> str:
    if mean is None or longest is None:
        return ""
    return f"{seconds(mean)} / {seconds(longest)}"


def _one(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _hiernet(found: Results, comparison: Comparison) -> Html:
    """HierNet's row of the same depth, or its smallest, over ours; nothing where it did not run."""
    ours = [row for row in comparison.hierarchies if row.run.method == _BRANCHED]
    if not ours:
        return Html("")
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
                "" if full is None else points(full.msr.mean - flat),
                points(row.msr.mean - flat),
            )
        )
    made = table(
        ("HierNet", "backbone", "flat, %", "in full, %", "by route, %",
         "gain in full, points", "gain by route, points"),
        rows,
        caption="Table of the HierNet paper (ReLU), the row of our backbone or else the smallest, "
        "and ours below it, mean over seeds.",
        words=(0, 1),
        marked=range(len(theirs), len(rows)),
    )  # fmt: skip
    here = f"{_data(found)} Flat: {_epochs(found.flat)}. HierNet: {_epochs(ours[0].run)}."
    said = [paragraph("There: ", published.HIERNET_DATA), paragraph("Here: ", here)]
    return join([element("h3", "HierNet"), *said, made])


def _epochs(run: Run) -> str:
    epochs = sum(int(one["epochs"]) for one in _trained(run).fit["networks"])
    return f"{count(epochs)} epochs"


def _trained(run: Run) -> Trained:
    return next(iter(run.seeds.values()))


def _data(found: Results) -> str:
    samples, side = found.manifest["samples"], found.manifest["image"]["side"]
    return (
        f"{len(found.labels)} labels, {count(sum(samples.values()))} pictures of {side} × {side} "
        f"pixels ({', '.join(f'{count(n)} {split}' for split, n in samples.items())}), "
        f"{len(found.seeds)} training{'s' if len(found.seeds) > 1 else ''} of each run."
    )
