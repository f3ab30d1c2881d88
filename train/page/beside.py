"""Our figures in the form of the Uppsala report's two tables, beside theirs."""

from collections.abc import Mapping
from typing import Any

import networkx as nx
import numpy as np

from train.page import papers, published
from train.page.comparison import Comparison
from train.page.markup import (
    Html,
    count,
    element,
    join,
    paragraph,
    seconds,
    table,
)
from train.page.published import Seconds, Success
from train.page.results import Results, Run, Trained
from train.page.sections import Section
from train.page.summary import Summary
from train.tree import hierarchy

_METHOD = "uppsala"


def section(found: Results, comparison: Comparison) -> Section:
    """Returns both tables of the report, and those of each other paper whose method ran."""
    body = [
        paragraph("There: ", published.DATA),
        paragraph("Here: ", _data(found), " Side by side, not against each other."),
        _success(comparison, images=len(found.white)),
        _seconds(found, comparison),
        element("ul", *(element("li", doubt) for doubt in published.DOUBTS), class_="note"),
        *papers.write(found, comparison),
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


def _ours(comparison: Comparison) -> list[Summary]:
    return [row for row in comparison.hierarchies if row.run.method == _METHOD]


def _success(comparison: Comparison, *, images: int) -> Html:
    rows = [*published.SUCCESS, *map(success, (comparison.flat, *_ours(comparison)))]
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
    ours = [times(row.run, found.flat) for row in _ours(comparison)]
    rows = [*published.SECONDS, *ours]
    return table(
        (
            "data, kind",
            "flat, s",
            "root, s",
            "subnetworks, mean / max, s",
            "total, s",
            "parallel, s",
            "speed-up, total / parallel",
            "total with the clusters' networks, s",
            "parallel with them, s",
            "speed-up with them, total / parallel",
        ),
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
    )


def _two(mean: float | None, longest: float | None) -> str:
    if mean is None or longest is None:
        return ""
    return f"{seconds(mean)} / {seconds(longest)}"


def _one(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _data(found: Results) -> str:
    samples, side = found.manifest["samples"], found.manifest["image"]["side"]
    return (
        f"{len(found.labels)} labels, {count(sum(samples.values()))} images of {side} × {side} "
        f"pixels ({', '.join(f'{count(n)} {split}' for split, n in samples.items())}), "
        f"{len(found.seeds)} training{'s' if len(found.seeds) > 1 else ''} of each run."
    )
