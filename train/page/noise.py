"""Reads the doubtful labels that `python -m train noise` wrote, if it did for the present data."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from personae import tables
from personae.errors import PersonaeError

log = logging.getLogger(__name__)

_COLUMNS = pa.schema(
    {
        "post_id": pa.int64(),
        "split": pa.string(),
        "label": pa.string(),
        "rank": pa.int32(),
        "predicted": pa.string(),
        "self_confidence": pa.float64(),
        "margin": pa.float64(),
        "is_suspect": pa.bool_(),
    }
)
_METADATA = b"personae.noise"


@dataclass(frozen=True, slots=True)
class SuspectSample:
    """A sample whose label is doubtful."""

    post_id: int
    split: str
    label: str
    predicted: str
    own: float
    """Probability of its label, 0..1."""
    margin: float
    """Largest probability of another label minus `own`."""


@dataclass(frozen=True, slots=True)
class NoisyLabel:
    """A label with doubtful samples: the most doubtful first, no more than the page shows."""

    label: str
    samples: int
    suspects: int
    shown: tuple[SuspectSample, ...]


@dataclass(frozen=True, slots=True)
class LabelNoise:
    """The labels with doubtful samples; the largest share of them first."""

    samples: int
    folds: int
    labels: tuple[NoisyLabel, ...]

    @property
    def suspects(self) -> int:
        """Number of doubtful samples."""
        return sum(label.suspects for label in self.labels)


def read(path: Path, *, root_sha256: str, each: int) -> LabelNoise | None:
    """
    Returns what noise.parquet holds, with at most `each` samples of a label.

    None if the file is absent. A file that cannot be read, or is of other shards than `root_sha256`,
    is left out with a warning: it is no part of the comparison.
    """
    if not path.exists():
        return None
    try:
        table = tables.read_complete(path, _COLUMNS, stage="noise")
        facts = json.loads((pq.read_schema(path).metadata or {})[_METADATA])
        root, folds = str(facts["root_sha256"]), int(facts["folds"])
    except (PersonaeError, KeyError, TypeError, ValueError) as error:
        log.warning("%s cannot be read (%s): the report leaves its section out", path, error)
        return None
    if root != root_sha256:
        log.warning(
            "%s is of the data %.12s…, and the report of %.12s…: its section is left out. Run "
            "`python -m train noise` again.",
            path,
            root,
            root_sha256,
        )
        return None
    labels = [_label(table.filter(pc.field("label") == label), each) for label in _names(table)]
    noisy = sorted(
        (label for label in labels if label.suspects),
        key=lambda label: (-label.suspects / label.samples, label.label),
    )
    return LabelNoise(len(table), folds, tuple(noisy))


def _names(table: pa.Table) -> list[str]:
    names: list[str] = table["label"].unique().to_pylist()
    return names


def _label(samples: pa.Table, each: int) -> NoisyLabel:
    suspects = samples.filter(pc.field("is_suspect")).sort_by("rank")
    shown = tuple(
        SuspectSample(
            row["post_id"],
            row["split"],
            row["label"],
            row["predicted"],
            row["self_confidence"],
            row["margin"],
        )
        for row in suspects.slice(0, each).to_pylist()
    )
    return NoisyLabel(samples["label"][0].as_py(), len(samples), len(suspects), shown)
