"""A Ray cluster of two nodes on loopback, and functions that its tasks call in the tests."""

import importlib.util
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from curation import measure

# Not by an import: Ray reads the environment below when it is imported.
IS_ABSENT = importlib.util.find_spec("ray") is None
REASON = "Ray is not installed: pip install 'personae[ray]'"
# Ray looks for the address of this machine in its network; the first variable makes it loopback.
_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray listens on every interface, and runs code for whoever has the token.
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": uuid.uuid4().hex,
}


class Observed(NamedTuple):
    """A partition, and files by which a test sees who computes it."""

    partition: measure.Partition
    log: Path
    """Gets a line for each start: the node, and the partition."""
    pipe: Path
    """A named pipe. The tasks of node `victim` wait for its writer from their third start on."""
    gate: Path
    """A named pipe. The tasks of other nodes wait until it has a writer, so that `victim` works."""
    victim: str


class TwoNodes:
    """A cluster of two nodes with a core each, in a process of its own; the second can be killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.address, self.other = process.stdout.readline().split()

    def kill_at(self, pipe: Path, gate: Path, done: threading.Event) -> None:
        """Kills `other` when a task of it reads `pipe`, then opens `gate` until `done`."""
        with pipe.open("wb"):  # open until the end: a process of the node may live a little longer
            self.kill_other()
            with gate.open("wb"):
                done.wait()

    def kill_other(self) -> None:
        """Kills the processes of the node `other`, and returns when they are gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("kill\n")
        self._process.stdin.flush()
        assert "killed\n" == self._process.stdout.readline()


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """Yields a cluster, at which RAY_ADDRESS points until the block ends."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        env=os.environ | _ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process, pytest.MonkeyPatch.context() as patch:
        cluster = TwoNodes(process)
        for name, value in _ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("RAY_ADDRESS", cluster.address)
        try:
            yield cluster
        finally:
            import ray

            ray.shutdown()
            process.communicate()


def _serve() -> None:
    """Starts the cluster, and kills its second node for each line of standard input."""
    from ray.cluster_utils import Cluster

    os.environ.pop("OMP_NUM_THREADS", None)  # where it is set, Ray leaves it as it is
    node = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    other = cluster.add_node(num_cpus=1)
    print(cluster.address, other.node_id, flush=True)  # noqa: T201  # read by the test
    for _ in sys.stdin:
        cluster.remove_node(other, allow_graceful=False)
        print("killed", flush=True)  # noqa: T201  # as above
    cluster.shutdown()


def node_id() -> str:
    """Returns the id of the node that computes the task."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def observed(item: Observed) -> int:
    """Measures a partition, and leaves a trace of it."""
    with item.log.open("a", encoding="utf-8") as log:
        log.write(f"{node_id()} {item.partition.stem.name}\n")
    starts = [line.split()[0] for line in item.log.read_text(encoding="utf-8").splitlines()]
    if node_id() != item.victim:
        item.gate.open("rb").close()
    elif starts.count(item.victim) >= 3:
        item.pipe.open("rb").read()
    return measure.measure_partition(item.partition)


@dataclass
class StoppingClock:
    """A clock that waits for the writer of a pipe on node `victim`, from its N-th reading on."""

    pipe: Path
    gate: Path
    """The tasks of other nodes wait until it has a writer."""
    victim: str
    readings: int

    def __call__(self) -> float:
        """Returns seconds since any start."""
        self.readings -= 1
        node = ray_node()
        if node not in (None, self.victim):
            self.gate.open("rb").close()
        elif node and self.readings < 0:
            self.pipe.open("rb").read()
        return time.perf_counter()


def ray_node() -> str | None:
    """Returns the id of the node that computes the task; None outside of a task."""
    ray = sys.modules.get("ray")
    is_task = ray is not None and ray.is_initialized() and ray.get_runtime_context().get_task_id()
    return node_id() if is_task else None


def waiting(pipe: Path) -> bytes:
    """Reads a named pipe to its end."""
    return pipe.open("rb").read()


def described(number: int) -> tuple[int, str, str, str]:
    """Returns the number, the current folder, the threads of libraries, and the interpreter."""
    return number, str(Path.cwd()), os.environ["OMP_NUM_THREADS"], sys.executable


if __name__ == "__main__":
    _serve()
