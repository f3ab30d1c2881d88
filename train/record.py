"""
`python -m train record PRESET`: records the figures of every evaluated run.

Reads results/RUN/SEED/{metrics,cost,fit,model}.json and the shards' manifest; writes
experiments/PRESET/RUN-SEED.json and experiments/SHA256SUMS, which are committed. The next preset overwrites results/.
"""

import hashlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from personae import files
from personae.build.index import read_index
from personae.errors import BadParams, MissingInput
from train.documents import (
    CostDocument,
    DataDocument,
    FitDocument,
    MachineDocument,
    MetricsDocument,
    ModelDocument,
    RecordDocument,
)
from train.results import seed_of

log = logging.getLogger(__name__)


def run(
    preset: str,
    *,
    data_dir: Path,
    results_dir: Path,
    experiments_dir: Path,
    commands: Sequence[str] = ("dvc repro",),
) -> list[Path]:
    """
    Writes one file for each run and seed under `results_dir`, and returns their paths.

    Args:
        preset: Name of the folder in `experiments_dir`.
        data_dir: Folder of the shards.
        results_dir: Folder of the evaluated runs.
        experiments_dir: Folder of the records.
        commands: The commands that made the results.

    Raises:
        BadParams: `preset` is no plain name.
        MissingInput: There is no evaluated run, or no manifest, or a file is absent.
        MixedResults: A run was trained on other shards.
        BadDocument: A file has another shape.
    """
    if not re.fullmatch(r"[a-z0-9_]+", preset):
        raise BadParams(f"'{preset}' is no name of a preset: use lower-case letters, digits, _.")
    paths = sorted(results_dir.glob("*/*/metrics.json"))
    if not paths:
        raise MissingInput(f"No metrics.json lies under {results_dir}: run `dvc repro` first.")
    written = []
    for path in paths:
        run_name, seed = path.parent.parent.name, seed_of(path.parent)
        fit = FitDocument.read(path.with_name("fit.json"))
        model = ModelDocument.read(path.with_name("model.json"))
        index = read_index(data_dir / "shards", model.selection)
        manifest = index.manifest
        model.check_shards(index.labels, manifest.root_sha256, folder=path.parent)
        document = RecordDocument(
            preset=preset,
            run=run_name,
            seed=seed,
            metrics=MetricsDocument.read(path),
            cost=CostDocument.read(path.with_name("cost.json")),
            fit=fit,
            params=model.params,
            data=DataDocument(
                root_sha256=manifest.root_sha256,
                labels=manifest.labels,
                samples=manifest.samples,
                image=manifest.image,
            ),
            machine=MachineDocument(cpu_cores=fit.cpu_cores, architecture=fit.device_name),
            commit=fit.commit,
            commands=(*commands, f"python -m train record {preset}"),
        )
        target = experiments_dir / preset / f"{run_name}-{seed}.json"
        document.write(target)
        written.append(target)
    _add_sums(experiments_dir, written)
    log.info("recorded %d runs in %s", len(written), experiments_dir / preset)
    return written


def _add_sums(folder: Path, paths: Sequence[Path]) -> None:
    """
    Writes the sha256 of each path into SHA256SUMS of `folder`, and keeps the lines of other files.

    `sha256sum -c` reads the file. A test compares it, so that a figure edited by hand is noticed.
    """
    sums = folder / "SHA256SUMS"
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.exists() else []
    known = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        known[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    files.write_text(sums, "".join(f"{known[name]}  {name}\n" for name in sorted(known)))
