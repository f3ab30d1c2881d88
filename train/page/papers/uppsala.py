"""The Uppsala report's Tables 1 and 2 (Colin and Nagarajan 2018), and our runs below them."""

from collections.abc import Mapping, Sequence

import networkx as nx
import numpy as np

from train.documents import NetworkDocument
from train.page import published
from train.page.blocks import ReportTable, table
from train.page.comparison import RunComparison
from train.page.formatting import count, fixed, seconds
from train.page.published import UppsalaAccuracy, UppsalaSeconds
from train.page.results import ComparedRun, Results, TrainedRun
from train.page.summary import RunSummary
from train.tree import hierarchy

_METHOD = "uppsala"


def tables(results: Results, comparison: RunComparison) -> tuple[ReportTable, ReportTable]:
    """Returns both tables of the report, each with flat and the runs of method `uppsala` below."""
    ours = [row for row in comparison.hierarchies if row.run.method == _METHOD]
    rows = [comparison.flat, *ours]
    return (
        _accuracy_table([accuracy(row) for row in rows], images=len(results.white)),
        _seconds_table([times(row.run, results.flat) for row in ours]),
    )


def accuracy(row: RunSummary) -> UppsalaAccuracy:
    """
    Returns a run as a row of the report's Table 1, in percent.

    MICP is that of the clusters on which the run is built; for flat, of the reference clusters.
    """
    micp = row.micp if row.micp_own is None else row.micp_own
    return UppsalaAccuracy(
        architecture=_architecture(row.run),
        data="here",
        msr=100 * row.msr.mean,
        micp=100 * micp.mean,
        msr_white=None if row.msr_white is None else 100 * row.msr_white.mean,
    )


def times(run: ComparedRun, flat: ComparedRun) -> UppsalaSeconds:
    """
    Returns a run as a row of the report's Table 2, means over its seeds.

    A network that is no node of the run's tree was trained to find clusters: its time stands apart.
    """
    rows = [_times(trained, flat.seeds[seed]) for seed, trained in run.seeds.items()]

    def mean(name: str) -> float | None:
        values = [value for row in rows if (value := row[name]) is not None]
        return float(np.mean(values)) if values else None

    return UppsalaSeconds(
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


def _times(trained: TrainedRun, flat: TrainedRun) -> dict[str, float | None]:
    graph = trained.hierarchy
    nodes = {node for node, data in graph.nodes(data=True) if data["net"] is not None}
    networks = trained.fit.networks
    taken = {network.network: network.seconds for network in networks}
    own = {name: value for name, value in taken.items() if name in nodes}
    below = [value for name, value in own.items() if name != hierarchy.ROOT]
    chain = {name: own.get(name, 0.0) for name in taken}
    return {
        "flat": flat.fit.total_seconds,
        "root": own.get(hierarchy.ROOT) if below else None,  # else all of it is one network
        "mean": float(np.mean(below)) if below else None,
        "max": max(below, default=None),
        "total": sum(own.values()),
        "parallel": _critical_path(networks, chain),
        "finding": sum(taken.values()) - sum(own.values()),
        "finding_parallel": _critical_path(networks, taken) - _critical_path(networks, chain),
    }


def _critical_path(networks: Sequence[NetworkDocument], taken: Mapping[str, float]) -> float:
    """
    The longest chain of networks that depend on one another, in seconds.

    Where a record does not name what a network waits for, every network waits for the root.
    """
    ends: dict[str | None, float] = {None: 0.0}
    for network in networks:
        name = network.network
        is_known = "waits_for" in network.model_fields_set
        above = network.waits_for if is_known or name == hierarchy.ROOT else hierarchy.ROOT
        ends[name] = ends.get(above, 0.0) + taken[name]
    return max(ends.values())


def _depth(run: ComparedRun) -> int:
    """Networks on the longest path from the root: flat 1, the report's ordinary tree 2."""
    graph = run.first.hierarchy
    depth: dict[str, int] = {}
    for node in nx.topological_sort(graph):
        above = max((depth[parent] for parent in graph.predecessors(node)), default=0)
        depth[node] = above + (graph.nodes[node]["net"] is not None)
    return max(depth.values())


def _architecture(run: ComparedRun) -> str:
    if run.grouping is None:
        return run.name
    return f"{'deep hierarchical' if _depth(run) > 2 else 'hierarchical'} ({run.name})"


def _accuracy_table(ours: Sequence[UppsalaAccuracy], *, images: int) -> ReportTable:
    rows = [*published.ACCURACY, *ours]
    return table(
        ("architecture", "data", "MSR, %", "MICP, %", "MSR white, %", "MSR / MICP, %"),
        [
            (
                row.architecture,
                row.data,
                *map(fixed, (row.msr, row.micp, row.msr_white, row.implied)),
            )
            for row in rows
        ],
        caption="Table 1 of the Uppsala report (n not printed), and ours below it "
        f"(n = {count(images)}, means over seeds, as each run predicts by default). MSR, the mean "
        "success rate, is the report's word for accuracy. MSR / MICP is the implied accuracy inside "
        "the right cluster.",
        words=(0, 1),
        marked=range(len(published.ACCURACY), len(rows)),
    )


def _seconds_table(ours: Sequence[UppsalaSeconds]) -> ReportTable:
    head = (
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
    )
    rows = [*published.SECONDS, *ours]
    return table(
        head,
        [
            (
                row.kind,
                seconds(row.flat),
                "" if row.root is None else seconds(row.root),
                _mean_and_max(row),
                seconds(row.total),
                seconds(row.parallel),
                "{:.3f} / {:.3f}".format(*row.speed_ups),
                *map(seconds, row.whole),
                "{:.3f} / {:.3f}".format(*row.whole_speed_ups),
            )
            for row in rows
        ],
        caption="Table 2 of the Uppsala report: seconds of training, and ours below it, means over "
        "seeds. Parallel: networks that do not depend on one another train at the same time.",
        marked=range(len(published.SECONDS), len(rows)),
    )


def _mean_and_max(row: UppsalaSeconds) -> str:
    if row.subnetworks_mean is None or row.subnetworks_max is None:
        return ""
    return f"{seconds(row.subnetworks_mean)} / {seconds(row.subnetworks_max)}"
