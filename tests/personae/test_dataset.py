"""Tests `personae.Dataset` on shards alone: samples, images, splits for torch, and refusals."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from personae import Dataset, selection, tables
from personae.errors import BadParams, MissingInput, MissingPackage
from tests.train.conftest import LABELS, write_shards
from tests.train.selection_fixture import samples_of, select
from train.data import sampling
from train.data.images import open_data
from train.engine.feed import Order
from train.engine.task import Task
from train.params.data import Params as DataParams


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Returns a build of shards without a catalog: 7 train, 2 val and 2 test images of each label."""
    root = tmp_path_factory.mktemp("dataset")
    shards = write_shards(root / "data" / "shards", {"train": 7, "val": 2, "test": 2})
    table = pa.Table.from_pylist(samples_of(shards), schema=selection.SCHEMA)
    tables.write(shards / "samples.parquet", table)
    return root / "data"


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """Returns what a training opens of the same build."""
    return open_data(folder / "shards", tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def data(folder) -> Dataset:
    """Returns the build."""
    return Dataset(folder)


def _pixels(samples):
    return [(image.numpy().tobytes(), leaf) for image, leaf in samples]


def test_samples_are_those_of_the_shards(data, folder):
    """Keys, labels, splits and pixels are those of the tars, in their order."""
    expected = samples_of(folder / "shards")

    assert [row["post_id"] for row in expected] == [sample.post_id for sample in data]
    assert [str(row["post_id"]) for row in expected] == [sample.key for sample in data]
    assert len(data) == len(expected)
    for row, sample in zip(expected, data, strict=True):
        with tarfile.open(folder / "shards" / row["shard"]) as archive:
            content = archive.extractfile(f"{row['post_id']}.png").read()
        assert content == sample.encoded
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), np.asarray(sample.image))
        assert (row["label"], row["leaf"]) == (sample.label, sample.leaf)
        assert (row["split"], row["white_background"]) == (sample.split, sample.white_background)
    assert data[-1] == data[len(data) - 1]
    assert data.labels == LABELS
    with pytest.raises(IndexError):
        data[len(data)]


@pytest.mark.parametrize("balance", ["none", "fixed", "resample"])
@pytest.mark.parametrize("seed", [0, 3])
def test_order_is_that_of_a_training(data, trained, balance, seed):
    """Every epoch has the images of a training of the flat network, in its order."""
    labels = trained.train.labels
    task = Task(
        "root",
        trained,
        np.arange(4),
        sampling.by_class(labels, [[leaf] for leaf in range(4)], balance=balance),
        macs_trained=1,
    )
    order = Order(task, seed=seed, batch_size=5)
    train = data.torch("train", seed=seed, balance=balance)

    for epoch in range(3):
        rows = order.rows(epoch)
        images = torch.from_numpy(trained.train.images[rows]).permute(0, 3, 1, 2)
        shown = list(train)
        assert np.array_equal(rows, train.order(epoch))
        assert torch.equal(images, torch.stack([image for image, _ in shown]))
        assert labels[rows].tolist() == [leaf for _, leaf in shown]


def test_selection_has_the_labels_and_the_order_of_its_training(folder, tmp_path):
    """A selection renumbers the labels as training does."""
    reference = select(folder / "shards", tmp_path / "some.parquet", lambda row: row["leaf"] != 1)
    trained = open_data(
        folder / "shards", tmp_path / "cache", params=DataParams(selection=reference)
    )
    data = Dataset(folder, selection=reference)
    shown = list(data.torch("train", shuffle=False))

    assert ("ann", "cem", "dua") == data.labels == trained.labels
    assert trained.root_sha256 == data.sha256
    assert trained.train.labels.tolist() == [leaf for _, leaf in shown]
    assert {"ann", "cem", "dua"} == {sample.label for sample in data}


@settings(max_examples=15)
@given(st.integers(0, 1), st.integers(0, 28), st.sampled_from(["none", "fixed", "resample"]))
def test_resumed_epoch_is_exactly_the_rest(data, epoch, taken, balance):
    """After any number of samples, another dataset yields those that are left, then the next epoch."""

    def opened():
        epochs = data.torch("train", seed=1, balance=balance)
        epochs.epoch = epoch
        return epochs

    whole, stopped, resumed = opened(), opened(), opened()
    iterator = iter(stopped)
    shown = [next(iterator) for _ in range(taken)]
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    expected = _pixels(whole) + (_pixels(whole) if taken == 28 else [])

    assert expected == _pixels(shown) + _pixels(resumed)
    assert whole.state_dict() == resumed.state_dict()


@settings(max_examples=25)
@given(
    before=st.integers(1, 5),
    after=st.integers(1, 5),
    share=st.floats(0, 1),
    balance=st.sampled_from(["none", "resample"]),
)
def test_processes_share_an_epoch_and_may_change_in_number(data, before, after, share, balance):
    """Before and after a change of their number, no sample comes twice, and at most W - 1 are missing."""

    def opened(world_size):
        return [
            data.torch("train", seed=1, balance=balance, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]

    whole = _pixels(data.torch("train", seed=1, balance=balance))
    begun = opened(before)
    taken = int(share * len(begun[0]))
    iterators = [iter(part) for part in begun]
    shown = [next(iterator) for _ in range(taken) for iterator in iterators]
    states = [part.state_dict() for part in begun]
    resumed = opened(after)
    for part in resumed:
        part.load_state_dict(json.loads(json.dumps(states[-1])))
    rest = [_pixels(part) for part in resumed]

    assert all(state == states[0] for state in states)
    if begun[0].epoch == 1:  # the epoch was complete: what follows is another
        assert taken == len(begun[0])
        return
    assert whole[: len(shown)] == _pixels(shown)
    assert len({len(part) for part in rest}) == 1
    ends = [pixels for step in zip(*rest, strict=True) for pixels in step]
    assert whole[len(shown) :][: len(ends)] == ends
    assert len(whole) - len(shown) - len(ends) < after
    assert (1, 0) == (resumed[0].epoch, resumed[0].state_dict()["position"])


def test_loader_resumes_at_a_batch(data):
    """The state after a batch of a `DataLoader` is that of its last sample."""
    whole = torch.cat([leaves for _, leaves in DataLoader(data.torch("train"), batch_size=6)])
    train = data.torch("train")
    images, leaves = next(iter(DataLoader(train, batch_size=6)))
    resumed = data.torch("train")
    resumed.load_state_dict(train.state_dict())
    rest = torch.cat([leaves for _, leaves in DataLoader(resumed, batch_size=6)])

    assert (torch.uint8, (6, 3, 16, 16)) == (images.dtype, tuple(images.shape))
    assert torch.equal(whole, torch.cat([leaves, rest]))


def test_state_of_another_order_is_refused(data):
    """Another split, seed, balance or position would continue with other samples."""
    train = data.torch("train")
    state = train.state_dict()
    for other in (
        data.torch("val"),
        data.torch("train", seed=1),
        data.torch("train", balance="fixed"),
    ):
        with pytest.raises(BadParams, match=r"The state has .*Open the dataset"):
            other.load_state_dict(state)
    for wrong in ({"position": 28}, {"position": -1}, {"epoch": -1}, {"epoch": "0"}):
        with pytest.raises(BadParams, match=r"an epoch has 28 samples"):
            train.load_state_dict(state | wrong)
    with pytest.raises(BadParams, match=r"rank is 2 and world_size 2\. Ranks count from 0"):
        data.torch("train", rank=2, world_size=2)


def test_worker_of_a_loader_is_refused(data, monkeypatch):
    """Workers would each yield the whole epoch; the message says what to do."""
    # What `get_worker_info` returns in a worker; a real one that fails takes five seconds to end.
    monkeypatch.setattr(torch.utils.data._utils.worker, "_worker_info", object())

    with pytest.raises(BadParams, match="num_workers=0"):
        next(iter(data.torch("val")))


def test_refusals_say_what_to_do(data, tmp_path, monkeypatch):
    """No build, no such split, no such balance, seed or position, no catalog, and no torch have a clear error each."""
    with pytest.raises(MissingInput, match=r"manifest.json is absent: stage 'shards'"):
        Dataset(tmp_path)
    with pytest.raises(BadParams, match=r"'trian' is no split. Did you mean 'train'\?"):
        data.torch("trian")
    with pytest.raises(BadParams, match=r"'odd' is no balance. Known: resample"):
        data.torch("train", balance="odd")
    for seed in ("a", -1, 0.5, None):
        with pytest.raises(BadParams, match=rf"seed is {seed!r}, and must be a whole number"):
            data.torch("train", seed=seed)
    for position in (slice(3), "0", 0.0, None, (0, 1)):
        with pytest.raises(TypeError, match="A position is a whole number, not"):
            data[position]
    with pytest.raises(MissingInput, match=r"catalog.duckdb is absent: stage 'catalog'"):
        data.query("FROM dataset")
    monkeypatch.delitem(sys.modules, "personae.epochs", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackage, match=r"pip install -e '\.\[train\]'"):
        data.torch("train")


def test_package_imports_nothing_heavy():
    """`import personae` loads no library; `Dataset` loads neither torch nor DuckDB."""
    program = (
        "import sys, personae; assert not {'numpy', 'pyarrow', 'torch', 'duckdb'} & set(sys.modules)\n"
        "personae.Dataset; assert not {'torch', 'duckdb'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    with pytest.raises(ImportError):
        from personae import Datasets  # noqa: F401
