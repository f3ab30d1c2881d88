"""
Maps a function over the independent pieces of a stage: in processes here, or in tasks of a cluster.

Worker processes stop within seconds when asked, and end with their parent. Whatever a worker writes
must be whole or absent at each moment, because it may be killed.
"""

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TypeVar

from personae import ray_tasks
from personae.engine import Engine
from personae.errors import WorkerLost

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_GRACE_SECONDS = 1.0  # an image of 40 million pixels takes about as long
# There is a worker per core, so more threads would only wait for each other.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_stop_requested = threading.Event()


class _Stopped(Exception):
    """Ends the work of one item in a worker that was asked to stop; nobody reads it."""


def cores() -> int:
    """Returns the cores that this process may use; macOS tells the number of the machine alone."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare(module: str) -> None:
    """
    Starts the server that forks the workers, which imports `module` while this process does the same.

    Without this call, `in_processes` starts the server when it needs the first worker.
    """
    if sys.platform != "linux":
        return
    from multiprocessing import forkserver, resource_tracker

    multiprocessing.set_forkserver_preload([module] if module != "__main__" else [])
    resource_tracker.ensure_running()  # here, because it unblocks the signal
    # Workers inherit the blocked signal, so Ctrl-C on a terminal reaches the parent alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _environment(_of_server()):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _of_server() -> dict[str, str]:
    """Returns variables by which the server imports from where this process does, and has one thread."""
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    return dict.fromkeys(_THREADS, "1") | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables of the environment until the block ends."""
    before = os.environ.copy()
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)


def check_for_stop() -> None:
    """
    Ends the current item if the parent asked its workers to stop; call it at each small step.

    A task of a cluster needs no check: Ray interrupts it as Ctrl-C does.
    """
    if _stop_requested.is_set():
        raise _Stopped


def mapped(
    function: Callable[[ItemT], ResultT],
    items: Sequence[ItemT],
    *,
    engine: Engine,
    workers: int | None,
    stage: str,
    shared_dir: Path,
) -> Iterator[ResultT]:
    """
    Yields `function(item)` of each item in order; the engine changes where, never what.

    Args:
        function: A function of a module, pure but for files that it writes whole or not at all.
        items: Specifications: paths and numbers, never pixels.
        engine: `local` or `ray`.
        workers: Most items at once; None: one per core, of this machine or of the cluster.
        stage: The stage that the work belongs to, named in messages.
        shared_dir: Folder of the files that are read and written.

    Raises:
        WorkerLost: A worker process was killed, or a task of the cluster was lost too often.
        MissingPackage, BadParams, MissingInput: As `personae.ray_tasks.in_tasks`.
    """
    if engine == "ray" and items:
        return ray_tasks.in_tasks(
            function,
            items,
            shared_dir=shared_dir,
            stage=stage,
            at_once=workers,
        )
    processes = min(workers or cores(), len(items))
    return in_processes(function, items, workers=processes, stage=stage)


def in_processes(
    function: Callable[[ItemT], ResultT], items: Iterable[ItemT], *, workers: int, stage: str
) -> Iterator[ResultT]:
    """
    Yields `function(item)` of each item in order, computed in `workers` processes.

    With one worker the calling process does the work. An error or an interruption stops the workers
    at their next `check_for_stop`, and after one second wherever they are.

    Args:
        function: A function of a module: it is sent to other processes by name.
        items: Values that can be pickled.
        workers: Number of processes.
        stage: The stage that the work belongs to, named in messages.

    Raises:
        WorkerLost: A worker process was killed.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    context = _context(function)
    # Nothing is ever sent: the reader sees the end when the parent closes its side, or ends.
    reader, writer = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin_worker, initargs=(reader,)
    )
    try:
        # Workers inherit the blocked signal, so Ctrl-C on a terminal reaches the parent alone.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            results = pool.map(function, items)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        yield from results
    except BrokenProcessPool as error:
        raise WorkerLost(
            f"A worker process of stage '{stage}' was killed before its work was done. The most "
            "frequent reason is too little memory: lower `workers` or `max_pixels`. Run the stage "
            "again: it continues where it stopped."
        ) from error
    finally:
        writer.close()
        pool.shutdown(cancel_futures=True)
        reader.close()


def _context(function: Callable[..., object]) -> BaseContext:
    """
    Returns how workers are started, so that they copy no lock which a thread of this process holds.

    Linux forks them from a server without threads, which imports the libraries once. Elsewhere each
    worker is a new process: the libraries of macOS do not all survive a fork.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    prepare(function.__module__)
    return multiprocessing.get_context("forkserver")


def _begin_worker(reader: Connection) -> None:
    gc.freeze()  # the imported libraries stay: no collection needs to look at them
    threading.Thread(target=_end_with_parent, args=(reader,), daemon=True).start()


def _end_with_parent(reader: Connection) -> None:
    """Waits until the parent closes its side of the pipe, then ends this process."""
    reader.poll(None)
    _stop_requested.set()
    parent = multiprocessing.parent_process()
    if parent is not None and parent.is_alive():
        time.sleep(_GRACE_SECONDS)
    os._exit(1)
