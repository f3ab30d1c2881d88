"""
Trains several networks at once, each in a process of its own, here or on a node of a Ray cluster.

A process trains its network to the last checkpoint and ends; the caller loads the weights from the
checkpoint. A failure is only logged here: the caller trains on from the checkpoint, and the same
failure raises its own error there. A network whose node is lost trains on elsewhere.
"""

import logging
import multiprocessing as mp
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from personae import ray_tasks
from personae.progress import Progress
from train.engine import loop

log = logging.getLogger(__name__)

Work = tuple[Any, Any, Any, int]
"""Trainer, network, task and seed."""


def run(works: Sequence[Work], *, jobs: int) -> None:
    """Trains all of `works`, at most `jobs` at once, which share the CPU threads."""
    # A fresh interpreter: a fork would inherit torch's threads in an unknown state.
    context = mp.get_context("spawn")
    pending, running = deque(works), dict[Any, Any]()
    try:
        while pending or running:
            while pending and len(running) < jobs:
                level = logging.getLogger().getEffectiveLevel()
                process = context.Process(target=_train, args=(pending.popleft(), jobs, level))
                process.start()
                running[process.sentinel] = process
            for sentinel in wait(list(running)):
                process = running.pop(sentinel)
                process.join()
                if process.exitcode:
                    log.warning("A training process ended with code %s", process.exitcode)
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def run_on_cluster(works: Sequence[Work], *, jobs: int | None, shared_dir: Path) -> None:
    """
    Trains all of `works` as tasks of a Ray cluster, at most `jobs` at once.

    A task takes the threads that a local job takes, as cores of its node, and a GPU if the networks
    are trained on one. So one kind of machine gives one result.

    Args:
        works: Networks to train. Their images must lie in files, whose paths are sent.
        jobs: Most tasks at the same time; None: as many as the cluster has cores for.
        shared_dir: Folder of the checkpoints, on a disk that all nodes share.

    Raises:
        WorkerLost, MissingPackage, BadParams, MissingInput: As `ray_tasks.in_tasks`.
    """
    trainer = works[0][0]
    threads = loop.threads(trainer.params, at_once=jobs or 1)
    failures = ray_tasks.in_tasks(
        _train_as_task,
        [(*work, threads) for work in works],
        shared_dir=shared_dir,
        stage="fit",
        at_once=jobs,
        cores=threads,
        gpus=int(trainer.device.type == "cuda"),
    )
    with Progress("networks trained by the cluster", len(works)) as progress:
        for (_, _, task, _), failure in zip(works, failures, strict=True):
            if failure is not None:
                log.warning("%s: %s", task.name, failure)
            progress.advance(text=task.name)


def _train_as_task(work: tuple[Any, Any, Any, int, int]) -> str | None:
    """Trains one network with a number of threads; returns what went wrong, if anything."""
    trainer, network, task, seed, threads = work
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    loop.prepare(trainer.params.model_copy(update={"threads": threads}))
    try:
        trainer.fit(network, task, seed=seed)
    except Exception as error:  # noqa: BLE001  # the parent meets the same error and reports it
        return str(error)
    return None


def _train(work: Work, at_once: int, level: int) -> None:
    trainer, network, task, seed = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it and ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    loop.prepare(trainer.params, at_once=at_once)
    try:
        trainer.fit(network, task, seed=seed)
    except Exception as error:  # noqa: BLE001  # the parent meets the same error and reports it
        log.warning("%s: %s", task.name, error)
        sys.exit(1)


def _end_with_parent() -> None:
    """Ends this process when the parent has ended, however it ended."""
    parent = mp.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
