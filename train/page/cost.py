"""What a run costs: parameters, operations, seconds of training, and milliseconds of a prediction."""

from dataclasses import dataclass

import numpy as np

from train.documents import CostDocument
from train.page.results import ComparedRun, Results
from train.page.spread import Spread

_OTHER_WORK = 0.5  # processes beyond the threads that were timed


@dataclass(frozen=True, slots=True)
class ImageTime:
    """Milliseconds of one image in calls of one batch size, over the seeds that were timed."""

    median: float
    """Median over the calls, mean over seeds."""
    p95: float
    """95th percentile over the calls, the largest of the seeds."""
    calls: int
    """Timed calls of all seeds."""


@dataclass(frozen=True, slots=True)
class TimingConditions:
    """What a run's times depend on beside the run."""

    machines: tuple[str, ...]
    """Device, precision and threads; several if the seeds were timed on different ones."""
    is_quiet: bool | None
    """Whether the cores had no other work; None where that was not recorded."""


@dataclass(frozen=True, slots=True)
class RunCost:
    """The cost of a run, means over seeds: parameters, MACs of one image, operations and times."""

    params: float
    macs: float
    seconds_total: Spread
    seconds_critical: Spread
    seconds_clustering: Spread | None  # of the flat network that gave the clusters
    flops: Spread  # of training with that network
    alone: ImageTime | None  # of one image at a time; None where not measured
    in_batch: ImageTime | None  # in batches of 256
    timed: TimingConditions | None  # None where neither was measured


def cost_of(results: Results, run: ComparedRun, mode: str) -> RunCost:
    """Returns the cost of a run in one mode; only the default mode was timed."""
    fits = [trained.fit for trained in run.seeds.values()]
    metrics = [trained.metrics for trained in run.seeds.values()]
    macs = "macs_max" if mode == "full" else "macs_expected"
    needs = bool(run.grouping) and all(fit.needs_flat for fit in fits)
    paid = [results.flat.seeds[seed].fit for seed in run.seeds] if needs else []
    flops = [fit.train_flops for fit in fits]
    if paid:
        flops = [own + flat.train_flops for own, flat in zip(flops, paid, strict=True)]
    costs = [] if mode == "full" else [each.cost for each in run.seeds.values() if each.cost]
    return RunCost(
        params=float(np.mean([each.params for each in metrics])),
        macs=float(np.mean([getattr(each, macs) for each in metrics])),
        seconds_total=Spread(tuple(fit.total_seconds for fit in fits)),
        seconds_critical=Spread(tuple(fit.critical_path_seconds for fit in fits)),
        seconds_clustering=(Spread(tuple(fit.total_seconds for fit in paid)) if paid else None),
        flops=Spread(tuple(flops)),
        alone=_time(costs, batch=1),
        in_batch=_time(costs, batch=256),
        timed=_conditions([each for each in costs if each.latency]),
    )


def _time(costs: list[CostDocument], *, batch: int) -> ImageTime | None:
    rows = [row for cost in costs for row in cost.latency if row.batch == batch]
    if not rows:
        return None
    return ImageTime(
        median=float(np.mean([row.median_ms for row in rows])) / batch,
        p95=max(row.p95_ms for row in rows) / batch,
        calls=sum(row.calls for row in rows),
    )


def _conditions(costs: list[CostDocument]) -> TimingConditions | None:
    if not costs:
        return None
    machines = dict.fromkeys(
        f"{cost.device} {cost.device_name}, {cost.precision}, threads {cost.threads}"
        for cost in costs
    )
    loads = [None if each.load is None else each.load - each.threads for each in costs]
    known = [load for load in loads if load is not None]
    is_busy = any(load > _OTHER_WORK for load in known)
    is_quiet = False if is_busy else None if len(known) < len(loads) else True
    return TimingConditions(tuple(machines), is_quiet)
