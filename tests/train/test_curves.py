"""TensorBoard events: the values of the learning curves, written after each epoch, only on request."""

import struct
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from personae.errors import MissingPackage
from tests.train.test_loop import network, params_of, task_of
from train.engine import curves


def scalars(folder):
    """Reads the records of every event file: length, its checksum, data, its checksum."""
    values = {}
    for path in sorted(folder.rglob("*.tfevents.*")):
        data, start = path.read_bytes(), 0
        while start < len(data):
            (length,) = struct.unpack_from("<Q", data, start)
            event = Event.FromString(data[start + 12 : start + 12 + length])
            start += 12 + length + 4
            for value in event.summary.value:
                values[value.tag, event.step] = value.simple_value
    return values


def test_events_are_the_learning_curves(tiny_data, make_trainer, tmp_path):
    """Each epoch has loss, accuracy and rate of its row, under the name of the network."""
    trainer = make_trainer(tiny_data(), params=params_of(epochs=3))
    trainer.events_dir = tmp_path / "events"
    trainer.fit(network(), task_of(tiny_data()), seed=0)
    read = scalars(tmp_path / "events" / "root")

    assert 12 == len(read)
    for row in trainer.curves:
        for tag, key in {
            "loss/train": "train_loss",
            "loss/validation": "val_loss",
            "accuracy/validation": "val_accuracy",
            "learning_rate": "lr",
        }.items():
            assert np.float32(row[key]) == read[tag, row["epoch"]]


def test_each_epoch_is_on_the_disk_at_once(tmp_path):
    """A reader sees an epoch while the file is open; a resumed training adds a file."""
    row = dict.fromkeys(("train_loss", "val_loss", "val_accuracy", "lr"), 0.5)
    first = curves.Events(tmp_path, "root", epochs=0)
    first.add(row | {"epoch": 1})
    seen = set(scalars(tmp_path))
    first.close()
    resumed = curves.Events(tmp_path, "root", epochs=1)
    resumed.add(row | {"epoch": 2})
    resumed.close()

    assert {1} == {epoch for _, epoch in seen}
    assert {1, 2} == {epoch for _, epoch in scalars(tmp_path)}
    assert 2 == len(list(tmp_path.rglob("*.tfevents.*")))


def test_no_events_unless_a_folder_is_named(monkeypatch, tmp_path):
    """Without the variable nothing is written; with it and without the package the error says what to do."""
    monkeypatch.delenv(curves.VARIABLE, raising=False)
    assert curves.events_dir("flat", 0) is None
    curves.Events(None, "root", epochs=0).add({})
    monkeypatch.setenv(curves.VARIABLE, str(tmp_path))
    assert tmp_path / "flat" / "0" == curves.events_dir("flat", 0)
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)

    with pytest.raises(MissingPackage, match=r"personae\[tensorboard\]"):
        curves.events_dir("flat", 0)
