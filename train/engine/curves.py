"""
Learning curves: the table of a run, and TensorBoard events while it trains.

Events are written only where the environment variable PERSONAE_TENSORBOARD names a folder, so that a
training and its results do not depend on whether somebody watches.
"""

import csv
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from personae import files
from personae.errors import BadTable, MissingInput, MissingPackage

_CURVES = (
    "network",
    "epoch",
    "step",
    "lr",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "seconds",
)
VARIABLE = "PERSONAE_TENSORBOARD"
_SCALARS = {
    "loss/train": "train_loss",
    "loss/validation": "val_loss",
    "accuracy/validation": "val_accuracy",
    "learning_rate": "lr",
}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes one line for each network and epoch."""
    with files.whole_file(path, text=True, newline="") as file:
        writer = csv.DictWriter(file, _CURVES, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """
    Returns the lines that `write_csv` wrote, as text by column.

    Raises:
        MissingInput: The file is absent.
        BadTable: It has no line, or a line lacks a column or has no number where one belongs.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            _ = row["network"], int(row["epoch"])
            _ = [float(row[name] or "nan") for name in ("lr", *_SCALARS.values())]
    except OSError as error:
        raise MissingInput(f"{path} is absent: stage 'fit' writes it. Run that stage.") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise BadTable(
            f"{path} holds no learning curves ({error!r}). Run stage 'fit' again."
        ) from error
    if not rows:
        raise BadTable(f"{path} has no epochs. Run stage 'fit' again.")
    return rows


def events_dir(run: str, seed: int) -> Path | None:
    """
    Returns the folder of the events of a run; None if the variable is unset or empty.

    Raises:
        MissingPackage: tensorboardX is not installed.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    _library()
    return Path(folder) / run / str(seed)


class Events:
    """Writes the epochs of one network as TensorBoard scalars, each to the disk at once."""

    def __init__(self, folder: Path | None, network: str, *, epochs: int) -> None:
        """Opens no file before the first epoch; `epochs` of an earlier process lie in its own file."""
        self._folder = None if folder is None else folder / network
        self._epochs = epochs
        self._writer: Any = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes one row of the learning curves; nothing where there is no folder."""
        if self._folder is None:
            return
        writer, event_pb2, summary_pb2 = _library()
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Its file name ends in the second of its start: a quick resumption needs a name of its own.
            self._writer = writer(str(self._folder / "curves"), f".{self._epochs}")
        values = [
            summary_pb2.Summary.Value(tag=name, simple_value=row[key])
            for name, key in _SCALARS.items()
        ]
        summary = summary_pb2.Summary(value=values)
        event = event_pb2.Event(wall_time=time.time(), step=row["epoch"], summary=summary)
        self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file, if one is open."""
        if self._writer is not None:
            self._writer.close()


def _library() -> tuple[Any, Any, Any]:
    """Returns the writer of event files, without the queue and thread of `SummaryWriter`."""
    try:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2
    except ImportError as error:
        raise MissingPackage(
            f"{VARIABLE} is set, and tensorboardX is not installed ({error}). Unset it, or: "
            "pip install 'personae[tensorboard]'."
        ) from error
    return EventsWriter, event_pb2, summary_pb2
