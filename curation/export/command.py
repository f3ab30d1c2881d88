"""
`python -m curation export FORMAT FOLDER`: writes a build, or a selection of it, for other programs.

The folder appears when it is whole. A data set card (README.md) comes with every export, and
Croissant metadata with the Parquet files.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Final, Literal

from curation import workers
from curation.export import card, croissant, folder, parquet
from curation.export.build import ExportedBuild
from personae import files
from personae.engine import Engine
from personae.errors import BadParams
from personae.progress import Progress

Form = Literal["parquet", "folder"]
_FORMATS: Final[dict[Form, Any]] = {"parquet": parquet, "folder": folder}
_LEAST_PARALLEL = 100_000  # samples: fewer take one process about as long as several


def run(
    form: Form, out_dir: Path, *, data_dir: Path, selected: Path | None, engine: Engine = "local"
) -> ExportedBuild:
    """
    Writes the samples of a build to the new folder `out_dir`, and returns what was written.

    Args:
        form: parquet, for `datasets`; folder, for torchvision, timm and FiftyOne.
        out_dir: A folder that does not exist yet, or is empty.
        data_dir: Folder of the build.
        selected: A file of `python -m curation select`; None: all samples.
        engine: What writes the files with images; the bytes do not depend on it.

    Raises:
        BadParams: `out_dir` has files in it or is the current folder, or the selection belongs to
            another build.
        AlreadyRunning: Another process exports to this folder.
        MissingInput, TamperedData: The build is not complete, or was changed.
        WorkerLost: A worker process or a node was lost.
    """
    out_dir = out_dir.resolve()
    is_in_use = out_dir == Path.cwd()  # a shell would stay in the folder that was replaced
    if is_in_use or (out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir()))):
        raise BadParams(f"{out_dir} exists. Name a new folder, or move that one elsewhere.")
    build = ExportedBuild.open(data_dir, selected)
    part = out_dir.with_name(f"{out_dir.name}.part")
    with files.locked(part):
        _clear(part)  # of an export that was stopped
        _write(form, build, part, engine=engine)
        if out_dir.exists():
            out_dir.rmdir()
        part.rename(out_dir)
    return build


def _clear(folder: Path) -> None:
    """Removes what is in a folder, but not the folder, which may be locked."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _write(form: Form, build: ExportedBuild, part: Path, *, engine: Engine) -> None:
    """Writes all files of an export into the folder `part`."""
    total = sum(build.total(split) for split in build.splits)
    counts = workers.mapped(
        _FORMATS[form].write,
        _FORMATS[form].plan(build, part),
        engine=engine,
        workers=1 if engine == "local" and total < _LEAST_PARALLEL else None,
        stage="export",
        shared_dir=part,
    )
    with Progress("export", total) as progress:
        for count in counts:
            for _ in range(count):
                progress.advance()
    if form == "parquet":
        document = croissant.document(build, part)
        (part / croissant.NAME).write_text(json.dumps(document, indent=1), encoding="utf-8")
    (part / "README.md").write_text(card.write(build, form=form), encoding="utf-8")
