"""
Engine `ray`: maps a function over specifications as tasks of a Ray cluster (extra `ray`).

A specification and a small result travel; images stay on the disk that all nodes share. The cluster
is that of `RAY_ADDRESS`; without it, one of this machine alone starts, and ends with this process.
"""

import atexit
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from personae import shared_disk
from personae.errors import BadParams, MissingPackage, WorkerLost

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

ADDRESS: Final = "RAY_ADDRESS"
_RETRIES = 5  # of a task whose node or process is lost; an error of the function is not retried
_PER_SLOT = 2  # unfinished tasks: one that is computed, and the next
_STORE_BYTES = 100 << 20  # of a local cluster's object store: results are small
_ANSWER_SECONDS = 5.0  # until a cluster must have answered
_GRACE_SECONDS = 1.0  # until cancelled tasks have stopped


def in_tasks(
    function: Callable[[ItemT], ResultT],
    items: Iterable[ItemT],
    *,
    shared_dir: Path,
    stage: str,
    at_once: int | None = None,
    cores: int = 1,
    gpus: int = 0,
) -> Iterator[ResultT]:
    """
    Yields `function(item)` of each item in order, computed in tasks of the cluster.

    A task that is lost with its node starts again elsewhere. An error of `function` is raised as it
    is. After an error or an interruption, the tasks that still run are cancelled.

    Args:
        function: A function of a module: it is sent to other processes by name.
        items: Specifications that can be pickled.
        shared_dir: A folder in which each node sees the files of the others.
        stage: The stage that the work belongs to, named in messages.
        at_once: Most tasks at the same time; None: as many as the cluster has cores for.
        cores: CPU cores of a task, and threads of its libraries.
        gpus: GPUs of a task.

    Raises:
        MissingPackage: Ray is not installed.
        BadParams: The cluster has another version of Ray or Python.
        WorkerLost: No cluster answers, no node has `cores` and `gpus`, or a task was lost too often.
        MissingInput: A node does not see `shared_dir` or the current folder.
    """
    ray = _connected()
    # Without a runtime_env, for which Ray starts each process twice. OMP_NUM_THREADS is `cores`.
    task = ray.remote(shared_disk.work).options(num_cpus=cores, num_gpus=gpus, max_retries=_RETRIES)
    pending, unread, running = iter(items), deque[Any](), list[Any]()
    with shared_disk.marked(shared_dir) as working:
        try:
            while True:
                # Nodes may join and leave meanwhile.
                most = at_once or _PER_SLOT * _slots(ray, cores, gpus)
                for item in islice(pending, max(0, most - len(running))):
                    unread.append(task.remote(working, function, item))
                    running.append(unread[-1])
                if not unread:
                    return
                running = ray.wait(running)[1]
                while unread and unread[0] not in running:
                    yield _result(ray, unread.popleft(), stage)
        finally:
            if [ray.cancel(reference) for reference in running]:
                ray.wait(running, num_returns=len(running), timeout=_GRACE_SECONDS)


def _connected() -> Any:
    """Returns the module `ray`, connected to a cluster until this process ends."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What Ray announces as its future behaviour; without a choice it warns.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingPackage(
            "Engine 'ray' needs Ray, which is not installed here. Install it on each node:\n"
            "  pip install 'personae[ray]'"
        ) from error
    if ray.is_initialized():
        return ray
    address = os.environ.get(ADDRESS) or "local"
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    folders = shared_disk.import_folders()[::-1]  # Ray puts each before those that it has put
    options["job_config"] = ray.job_config.JobConfig(code_search_path=folders)
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
        ray.init(address, **options)
    except OSError as error:
        raise WorkerLost(
            f"No Ray cluster answers at {address} ({ADDRESS}): {error}. Start one, or unset {ADDRESS} "
            "to use this machine alone:\n  ray start --head"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise BadParams(
            f"The Ray cluster at {address} ({ADDRESS}) does not fit: {error}"
        ) from error
    # Before Ray's own, which first waits half a second for the output of tasks: none comes here.
    atexit.register(ray.shutdown)
    return ray


def _slots(ray: Any, cores: int, gpus: int) -> int:
    """Returns how many tasks of this size the cluster computes at the same time."""
    slots = 0
    for node in (node["Resources"] for node in ray.nodes() if node["Alive"]):
        by_gpu = node.get("GPU", 0) // gpus if gpus else sys.maxsize
        slots += int(min(node.get("CPU", 0) // cores, by_gpu))
    if not slots:
        raise WorkerLost(
            f"No node of the Ray cluster has the {cores} CPU cores and {gpus} GPUs of a task. Start "
            "such a node, and run the same command again."
        )
    return slots


def _result(ray: Any, reference: Any, stage: str) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise WorkerLost(
            f"A task of stage '{stage}' was lost: {error} Run the same command again: it continues."
        ) from error
