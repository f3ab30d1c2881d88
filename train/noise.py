"""
`python -m train noise`: the samples whose label a network, not trained on them, doubts most.

Reads the folds of data/split/split.parquet and the train and val shards. For each fold, a flat network
is trained on all other folds and predicts the fold. Writes results/noise/noise.parquet, and
relabel.csv beside it, where a person may write what to do. Test samples have no fold and take no
part. A finished fold is kept in work/noise/FOLD-KEY.npy; KEY is a hash of all its inputs.
"""

import csv
import hashlib
import io
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int

from personae import files, tables
from personae.errors import BadParams, MissingInput
from personae.text import printable, spreadsheet_cell
from train import fit, saved
from train.data.images import (
    DataModule,
    ImageSet,
    channel_mean,
    check_side,
    open_split,
    share_of_each_label,
)
from train.data.source import open_index
from train.engine import loop
from train.engine.trainer import Trainer
from train.evaluation import confident, prediction
from train.fit import RunSettings
from train.runtime import distributed, seeds
from train.tree import hierarchy

log = logging.getLogger(__name__)

NAME: Final = "noise"
SCHEMA: Final = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in {
            "post_id": pa.int64(),
            "split": pa.string(),
            "fold": pa.int32(),
            "label": pa.string(),
            "rank": pa.int32(),
            "predicted": pa.string(),
            "self_confidence": pa.float64(),
            "margin": pa.float64(),
            "threshold": pa.float64(),
            "is_suspect": pa.bool_(),
        }.items()
    ]
)
_METADATA: Final = b"personae.noise"
_RELABEL: Final = ("post_id", "action", "label", "predicted")


@dataclass(frozen=True, slots=True)
class FoldedSamples:
    """All samples of train and val with their folds, in the order of the shards."""

    labels: tuple[str, ...]
    side: int
    """Pixels."""
    root_sha256: str
    """Root hash of the shards, or the hash of the selection."""
    images: ImageSet
    fold: Int[np.ndarray, " image"]
    """-1: linked to several folds, so in none."""
    is_val: Bool[np.ndarray, " image"]


@dataclass(frozen=True, slots=True)
class FoldRows:
    """The rows of a fold, which is left out of a training, and those that the training sees."""

    fold: int
    left_out: Int[np.ndarray, " row"]
    train: Int[np.ndarray, " row"]
    val: Int[np.ndarray, " row"]


def run(
    settings: RunSettings, *, seed: int, data_dir: Path, results_dir: Path, work_dir: Path
) -> Path:
    """
    Writes noise.parquet and relabel.csv, and returns their folder.

    Actions that a person wrote into relabel.csv are kept.

    Raises:
        BadParams: The split has no folds, a fold cannot be left out, a batch has one image, or several
            processes run this.
        BadShard: A shard is damaged, or `data.side` is not the side of its images.
        MissingInput: A table is absent, disagrees with the shards, or relabel.csv cannot be read.
        AlreadyRunning: Another process does the same.
    """
    if distributed.launched() > 1:
        raise BadParams(f"`python -m train {NAME}` runs in one process. Start it without torchrun.")
    if settings.data.batch_size < 2:
        raise BadParams("data.batch_size is 1, and an update needs two images. Raise it.")
    out = results_dir / NAME
    files.check_writable(out)
    _actions(out / "relabel.csv")  # an unreadable file is an error before the training
    device = loop.prepare(settings.loop)
    samples = _samples(settings, data_dir=data_dir, work_dir=work_dir)
    folds = [_rows(settings, samples, fold) for fold in range(int(samples.fold.max()) + 1)]
    probabilities = np.zeros((len(samples.fold), len(samples.labels)), dtype=np.float32)
    with files.locked(work_dir / NAME):
        for rows in folds:
            probabilities[rows.left_out] = _predicted(
                settings, samples, rows, seed=seed, device=device, work_dir=work_dir / NAME
            )
    table = _table(samples, probabilities)
    facts = {
        "root_sha256": samples.root_sha256,
        "folds": len(folds),
        "seed": seed,
        "params": settings.document(),
    }
    tables.write(
        out / "noise.parquet",
        table.replace_schema_metadata({_METADATA: json.dumps(facts, sort_keys=True)}),
    )
    files.write_text(out / "relabel.csv", _relabel(table, _actions(out / "relabel.csv")))
    suspects = table.filter(table["is_suspect"])
    log.info(
        "%s: %d of %d samples are suspect, in %d of %d labels; %d samples are in no fold",
        out,
        len(suspects),
        len(table),
        len(suspects["label"].unique()),
        len(samples.labels),
        int((samples.fold < 0).sum()),
    )
    return out


def _samples(settings: RunSettings, *, data_dir: Path, work_dir: Path) -> FoldedSamples:
    """Opens the samples of train and val, and joins each with its fold."""
    shards_dir, selected = data_dir / "shards", settings.data.selection
    path = data_dir / "split" / "split.parquet"
    with tables.translated_errors(path, stage="split"):
        has_folds = "fold" in pq.read_schema(path).names
    if not has_folds:
        raise BadParams(
            f"{path} has no folds, and `{NAME}` predicts each fold by a network that is trained on the "
            "others. Set split.folds: 5 in params.yaml, then run the stages again:\n  dvc repro shards"
        )
    index = open_index(shards_dir, work_dir / "cache", settings.data, selected)
    check_side(settings.data.side, index.manifest.image.side)
    images = open_split(
        shards_dir,
        work_dir / "cache",
        "train+val",
        storage=settings.data.storage,
        selection=selected,
        source=settings.data,
    )
    columns = ["post_id", "split", "fold"]
    split = tables.read(path, columns, stage="split").sort_by("post_id")
    posts = split["post_id"].to_numpy()
    at = np.searchsorted(posts, images.post_ids).clip(max=max(0, len(posts) - 1))
    names = split["split"].to_numpy()[at] if len(posts) else np.array([])
    if not len(posts) or (posts[at] != images.post_ids).any() or (names == "test").any():
        raise MissingInput(
            f"{path} lacks samples of {shards_dir}, or has them in other splits: the two come from "
            "different runs. Run stages 'split' and 'shards' again."
        )
    fold = split["fold"].fill_null(-1).to_numpy().astype(np.int64)[at]
    return FoldedSamples(
        index.labels,
        index.manifest.image.side,
        index.manifest.root_sha256,
        images,
        fold,
        names == "val",
    )


def _rows(settings: RunSettings, samples: FoldedSamples, fold: int) -> FoldRows:
    """
    Returns what is left out and what is trained on.

    Raises:
        BadParams: The other folds have no training sample of a label, or no validation sample.
    """
    others = (samples.fold >= 0) & (samples.fold != fold)
    # A recipe that stops early chooses its epoch on the validation images, so it cannot train on them.
    keeps_val = loop.recipe_of(settings.loop).stops_early and not settings.data.train_on_val
    train = np.flatnonzero(others & ~(samples.is_val & keeps_val))
    if settings.data.share < 1:
        train = train[share_of_each_label(samples.images.at(train), settings.data.share)]
    val = np.flatnonzero(others & samples.is_val)
    counts = np.bincount(samples.images.labels[train], minlength=len(samples.labels))
    absent = [label for label, count in zip(samples.labels, counts, strict=True) if not count]
    if absent or not len(val):
        lacking = f"training samples of '{absent[0]}'" if absent else "validation samples"
        raise BadParams(
            f"Without fold {fold} no {lacking} are left. Lower split.folds, choose another split.seed, "
            "or select more samples of the label."
        )
    return FoldRows(fold, np.flatnonzero(samples.fold == fold), train, val)


def _predicted(
    settings: RunSettings,
    samples: FoldedSamples,
    rows: FoldRows,
    *,
    seed: int,
    device: torch.device,
    work_dir: Path,
) -> Float[np.ndarray, "image leaf"]:
    """Returns the probabilities of the images of a fold, by a network trained on the other folds."""
    key = _key(settings, samples, rows, seed=seed, device=device)
    kept, checkpoints = work_dir / f"{rows.fold}-{key}.npy", work_dir / f"{rows.fold}-{key}"
    if (probabilities := _kept(kept, (len(rows.left_out), len(samples.labels)))) is not None:
        log.info("fold %d: predictions are in %s", rows.fold, kept)
        return probabilities
    log.info("fold %d: training on the other folds", rows.fold)
    images = samples.images
    train, val = images.at(rows.train), images.at(rows.val)
    data = DataModule(samples.labels, samples.side, samples.root_sha256, train, val)
    mean = channel_mean(train.images)
    seeds.seed(seed, f"{NAME}-{rows.fold}", "weights")
    classifier = saved.build(
        settings.method,
        settings.own,
        settings.backbone,
        tree=hierarchy.flat(len(samples.labels)),
        side=settings.augment.network_side(samples.side),
        mean=mean,
    )
    classifier.to(device)
    trainer = Trainer(
        params=settings.loop,
        augment=settings.augment,
        batch_size=settings.data.batch_size,
        mean=torch.tensor(mean, device=device),
        device=device,
        work_dir=checkpoints,
    )
    classifier.fit(data, trainer, seed=seed)
    classifier.eval()
    predicted = prediction.predict(classifier, images.at(rows.left_out), device=device)
    with files.whole_file(kept) as file:
        np.save(file, predicted.probabilities)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return predicted.probabilities


def _key(
    settings: RunSettings,
    samples: FoldedSamples,
    rows: FoldRows,
    *,
    seed: int,
    device: torch.device,
) -> str:
    """Returns a hash of all inputs; `loop.jobs` and `data.storage` do not change the results."""
    params = settings.document()
    del params["loop"]["jobs"], params["data"]["storage"]
    facts = [params, samples.root_sha256, samples.labels, seed, device.type, fit.versions()]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for part in (rows.left_out, rows.train, rows.val):
        digest.update(hashlib.sha256(samples.images.post_ids[part].tobytes()).digest())
    return digest.hexdigest()[:16]


def _kept(path: Path, shape: tuple[int, int]) -> Float[np.ndarray, "image leaf"] | None:
    """Returns the probabilities in `path`; None if it is absent or damaged."""
    try:
        probabilities = np.load(path)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError):
        probabilities = np.empty(0)
    is_float = probabilities.shape == shape and probabilities.dtype == np.float32
    if is_float and np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        return np.asarray(probabilities)
    log.warning("%s is damaged: training the fold again", path)
    return None


def _table(samples: FoldedSamples, probabilities: Float[np.ndarray, "image leaf"]) -> pa.Table:
    """Returns noise.parquet: by label in the order of the leaves, the most doubted sample first."""
    images = samples.images
    rows = np.flatnonzero(samples.fold >= 0)
    rows = rows[np.argsort(images.post_ids[rows], kind="stable")]
    leaves = images.labels[rows]
    doubts = confident.doubts(probabilities[rows], leaves)
    names = np.array(samples.labels, dtype=object)
    order = np.lexsort((doubts.rank, leaves))
    columns = {
        "post_id": images.post_ids[rows],
        "split": np.where(samples.is_val[rows], "val", "train"),
        "fold": samples.fold[rows],
        "label": names[leaves],
        "rank": doubts.rank,
        "predicted": names[doubts.predicted],
        "self_confidence": doubts.self_confidence,
        "margin": doubts.margin,
        "threshold": doubts.thresholds[leaves],
        "is_suspect": doubts.is_suspect,
    }
    return pa.table({name: column[order] for name, column in columns.items()}).cast(SCHEMA)


def _relabel(table: pa.Table, actions: dict[int, dict[str, str]]) -> str:
    """Returns relabel.csv: every suspect with its action, then other posts that have an action."""
    left, text = dict(actions), io.StringIO()
    writer = csv.DictWriter(text, _RELABEL, lineterminator="\r\n")
    writer.writeheader()
    for row in table.filter(table["is_suspect"]).to_pylist():
        written = left.pop(row["post_id"], {})
        cells = {name: _cell(row[name]) for name in ("label", "predicted")}
        writer.writerow({"post_id": row["post_id"], "action": written.get("action", ""), **cells})
    writer.writerows(left.values())
    return text.getvalue()


def _cell(label: str) -> object:
    """Returns a label without line breaks, so that each row of the file is one line."""
    return spreadsheet_cell(printable(label).replace("\n", "·"))


def _actions(path: Path) -> dict[int, dict[str, str]]:
    """
    Returns the rows of relabel.csv in which a person wrote an action, by post id.

    Raises:
        MissingInput: The file cannot be read, lacks a column, or names a post by no number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            absent = {"post_id", "action"} - set(reader.fieldnames or ())
            if absent:
                raise ValueError(f"column {min(absent)} is absent; columns are divided by commas")  # noqa: TRY301  # translated like the others
            rows = [{name: row.get(name, "") for name in _RELABEL} for row in reader]
        return {int(row["post_id"]): row for row in rows if row["action"].strip()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, csv.Error) as error:
        raise MissingInput(
            f"{path} cannot be read ({error}), and may hold actions that you wrote. Correct it, or move "
            f"it away: `python -m train {NAME}` then writes it anew."
        ) from error
