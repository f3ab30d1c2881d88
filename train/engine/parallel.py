"""
Trains several networks at once, each in a process of its own.

A process trains its network to the last checkpoint and ends; the caller loads the weights from the
checkpoint. A failure is only logged here: the caller trains on from the checkpoint, and the same
failure raises its own error there.
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
from typing import Any

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
