"""Tests engine `ray` on a cluster of two nodes: the same bytes as `local`, also when a node is lost."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from curation import duplicates, filters, measure, persona, shards, split
from curation.__main__ import main
from curation.errors import TamperedData
from personae import ray_tasks
from personae.errors import MissingPackage
from tests import ray_cluster

pytestmark = [
    pytest.mark.skipif(ray_cluster.IS_ABSENT, reason=ray_cluster.REASON),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves files of its processes open
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]
PARTITIONS = measure.Params(pictures_per_tar=3)


@pytest.fixture(scope="module")
def two_nodes():
    with ray_cluster.two_nodes() as cluster:
        yield cluster


def digests(folder: Path) -> dict[str, bytes]:
    """Returns the content of every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_stage_gives_the_bytes_of_the_local_engine(two_nodes, tiny_data, curated) -> None:
    """Measures, groups and shards by `ray` equal those of one process, and so do all hashes."""
    folders = {"data_dir": tiny_data.data_dir, "work_dir": tiny_data.work_dir}
    measure.run(measure.Params(), **folders, engine="ray")
    filters.run(filters.Params(), **folders)
    duplicates.run(duplicates.Params(), **folders, engine="ray")
    persona.run(persona.Params(min_samples=5, balance="none"), **folders)
    sides = split.Params(train=0.4, val=0.3, test=0.3, tolerance=1, seed=2)
    split.run(sides, **folders)
    shards.run(shards.Params(samples_per_shard=10, workers=2), **folders, engine="ray")

    for stage in ("measure", "duplicates", "shards"):
        assert digests(curated.data_dir / stage) == digests(tiny_data.data_dir / stage)
    assert not any(path.name.startswith(".") for path in tiny_data.data_dir.iterdir())


def test_few_samples_become_shards_without_a_cluster(curated, tmp_path, monkeypatch) -> None:
    """A cluster would start its processes for longer than one process packs a small data set."""
    monkeypatch.setitem(sys.modules, "ray", None)
    data_dir = tmp_path / "data"
    shutil.copytree(curated.data_dir, data_dir)
    shutil.rmtree(data_dir / "shards")
    params = shards.Params(samples_per_shard=10)
    shards.run(params, data_dir=data_dir, work_dir=tmp_path / "work", engine="ray")

    assert digests(curated.data_dir / "shards") == digests(data_dir / "shards")


@pytest.mark.parametrize("form", ["parquet", "folder"])
def test_exports_are_those_of_the_local_engine(two_nodes, curated, tmp_path, form) -> None:
    """Every file of an export by `ray` has the bytes of the local engine."""
    for engine in ("local", "ray"):
        folder = tmp_path / engine / "exported"
        arguments = ["export", form, str(folder), "--data", str(curated.data_dir)]
        assert 0 == main([*arguments, "--engine", engine])

    assert digests(tmp_path / "local") == digests(tmp_path / "ray")


def test_damaged_input_is_our_own_error(two_nodes, tiny_data, capsys) -> None:
    """A segment with other bytes gives TamperedData, and exit code 5, as in one process."""
    segment = next((tiny_data.data_dir / "download" / "segments").iterdir())
    content = bytearray(segment.read_bytes())
    content[600] ^= 1
    segment.write_bytes(content)
    with pytest.raises(TamperedData) as caught:
        measure.run(
            PARTITIONS, data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir, engine="ray"
        )
    folders = ["--data", str(tiny_data.data_dir), "--work", str(tiny_data.work_dir)]
    code = main(["measure", *folders, "--engine", "ray"])

    assert TamperedData is type(caught.value)
    assert 5 == code
    assert "error: The image of post" in capsys.readouterr().err


def test_tasks_have_the_folder_and_the_order_of_the_caller(two_nodes, tmp_path, monkeypatch):
    """Results come in the order of the items, from the folder of the caller and one thread each."""
    monkeypatch.chdir(tmp_path)
    results = ray_tasks.in_tasks(
        ray_cluster.described, range(40), shared_dir=tmp_path, stage="test"
    )

    assert [(n, str(tmp_path), "1", sys.executable) for n in range(40)] == list(results)
    assert [] == list(tmp_path.iterdir())


FROM_TWO_FOLDERS = """
import sys
from pathlib import Path
import written_twice
from personae import ray_tasks

folder = Path(sys.argv[1])
print(*ray_tasks.in_tasks(written_twice.where, [1], shared_dir=folder, stage="test"))
"""


def test_tasks_import_the_module_that_the_command_imports(two_nodes, tmp_path) -> None:
    """Of two folders with a module of one name, a task takes the first, as the command does."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        (folder / "written_twice.py").write_text(f"def where(_):\n    return {folder.name!r}\n")
    path = os.pathsep.join([*map(str, folders), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", FROM_TWO_FOLDERS, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )

    assert "first\n" == done.stdout


def test_items_are_taken_when_a_task_can_start(two_nodes, tmp_path) -> None:
    """With one task at once, an item is taken when the result before it is there."""
    taken = []
    items = (taken.append(number) or number for number in range(5))
    results = ray_tasks.in_tasks(abs, items, shared_dir=tmp_path, stage="test", at_once=1)

    assert [(n, n + 1) for n in range(5)] == [(result, len(taken)) for result in results]


def test_without_ray_the_message_names_the_extra(tmp_path, monkeypatch) -> None:
    """The engine without its package says how to install it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackage, match=r"pip install 'personae\[ray\]'"):
        next(ray_tasks.in_tasks(abs, [1], shared_dir=tmp_path, stage="test"))


def test_a_cluster_that_does_not_answer_is_named(tiny_data) -> None:
    """A wrong RAY_ADDRESS ends within seconds, with the address in the message and exit code 3."""
    folders = ["--data", str(tiny_data.data_dir), "--work", str(tiny_data.work_dir)]
    done = subprocess.run(
        [sys.executable, "-m", "curation", "measure", "--engine", "ray", *folders],
        env=os.environ | {"RAY_ADDRESS": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 3 == done.returncode
    assert "error: No Ray cluster answers at 127.0.0.1:1 (RAY_ADDRESS)" in done.stderr


INTERRUPTED = """
import signal
import sys
from pathlib import Path
from personae import cli, interrupt, ray_tasks
from tests import ray_cluster

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts with & ignores it
interrupt.at_once()
interrupt.gracefully(within=10)
pipe = Path(sys.argv[1])
work = lambda: print(*ray_tasks.in_tasks(
    ray_cluster.waiting, [pipe], shared_dir=pipe.parent, stage="test"
))
sys.exit(cli.run(work))
"""


def test_an_interruption_cancels_the_tasks(two_nodes, tmp_path) -> None:
    """Ctrl-C ends the command with one message and code 3; the task that ran ends too."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    printed = tmp_path / "printed"  # a file: a pipe would stay open in what the command leaves
    with printed.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, str(pipe)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stderr=stderr,
        )
    with pipe.open("wb", buffering=0) as writer:  # returns when the task reads
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        with pytest.raises(BrokenPipeError):
            writer.write(b"nobody reads")
    message = printed.read_text(encoding="utf-8")

    assert 3 == process.returncode
    assert 1 == message.count("error: Interrupted.")
    assert "Traceback" not in message


def test_a_lost_node_costs_its_own_partitions(two_nodes, tiny_data, curated, tmp_path) -> None:
    """A node is killed half-way: the partitions of the other node are computed once, hashes stay."""
    other = two_nodes.other
    log, pipe, gate = (tmp_path / name for name in ("starts.log", "pipe", "gate"))
    log.touch()
    os.mkfifo(pipe)
    os.mkfifo(gate)
    done = threading.Event()
    killer = threading.Thread(target=two_nodes.kill_at, args=(pipe, gate, done))
    killer.start()
    partitions = measure._partitions(
        PARTITIONS, tiny_data.data_dir / "download", tiny_data.work_dir / "measure"
    )
    items = [ray_cluster.Observed(each, log, pipe, gate, other) for each in partitions]
    counts = list(
        ray_tasks.in_tasks(
            ray_cluster.observed, items, shared_dir=tiny_data.work_dir, stage="measure"
        )
    )
    done.set()
    killer.join()
    lines = [line.split() for line in log.read_text().splitlines()]
    starts = Counter(stem for _, stem in lines)
    again = {stem for stem, number in starts.items() if number > 1}
    of_victim = {stem for node, stem in lines if node == other}

    assert [len(each.rows) for each in partitions] == counts
    assert 3 <= len(of_victim)
    assert again <= of_victim
    assert 1 <= len(again) <= 2  # what the node computed, and what waited there
    assert len(partitions) == len(starts)
    # The partitions are complete: the stage publishes them, and the shards have the same hash.
    shutil.copytree(curated.data_dir / "split", tiny_data.data_dir / "split")
    shutil.copytree(curated.data_dir / "persona", tiny_data.data_dir / "persona")
    folders = {"data_dir": tiny_data.data_dir, "work_dir": tiny_data.work_dir}
    measure.run(PARTITIONS, **folders)
    shards.run(shards.Params(samples_per_shard=10), **folders)
    expected = digests(curated.data_dir / "shards")

    assert expected["manifest.json"] == digests(tiny_data.data_dir / "shards")["manifest.json"]
    assert len(lines) == len(partitions) + len(again)
