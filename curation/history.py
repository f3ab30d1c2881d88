"""
The samples of every build of the shards, so that a run can be asked for the posts that it saw.

Stage `catalog` adds data/catalog/samples-ROOT.parquet, named by the root hash of the shards; later builds
keep the files of earlier ones. A trained run records the root hash of its shards in model.json.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from curation.catalog_tables import pattern
from curation.documents import ManifestDocument
from personae import files, selection, tables
from personae.errors import MissingInput

NAMES: Final = re.compile(r"\b(seen|runs|build_samples)\b", re.IGNORECASE)
"""Tables and view that `join` makes."""
_ROOT: Final = re.compile(r"[0-9a-f]{64}")
_MOST_SAMPLES: Final = 1 << 31  # of a selection: its file is the user's own


def record(data_dir: Path, manifest: ManifestDocument) -> None:
    """Keeps post id and split of each sample of the present build, whole or not at all."""
    columns = ["post_id", "split"]
    samples = tables.read(data_dir / "shards" / "samples.parquet", columns, stage="shards")
    path = data_dir / "catalog" / _name(manifest.root_sha256)
    tables.write(path, samples.sort_by("post_id").replace_schema_metadata(None))


def join(connection: duckdb.DuckDBPyConnection, catalog_path: Path, results_dir: Path) -> None:
    """
    Adds to a connection to the catalog what the trained runs saw, as temporary tables.

    `runs` has run, seed, the root hash of each build that the run was trained on, and whether the
    samples of that build are known; `build_samples` has the samples of these builds; the view `seen`
    joins both.

    Raises:
        MissingInput: A model.json or a list of samples cannot be read.
    """
    connection.execute(
        "CREATE TEMP TABLE runs (run VARCHAR, seed BIGINT, root_sha256 VARCHAR, is_known BOOLEAN)"
    )
    connection.execute(
        "CREATE TEMP TABLE build_samples AS SELECT b.root_sha256, s.post_id, s.split "
        "FROM samples AS s, builds AS b"
    )
    known = {root for (root,) in connection.execute("SELECT root_sha256 FROM builds").fetchall()}
    for run, seed, root, selected in _trained(results_dir):
        if root not in known and _add(connection, catalog_path.parent, root, selected):
            known.add(root)
        connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", [run, seed, root, root in known])
    connection.execute(
        "CREATE TEMP VIEW seen AS SELECT DISTINCT r.run, r.seed, s.post_id, s.split "
        "FROM runs AS r JOIN build_samples AS s USING (root_sha256)"
    )


def _name(root: str) -> str:
    return f"samples-{root}.parquet"


def _trained(results_dir: Path) -> Iterator[tuple[str, int, str, str | None]]:
    """Yields run, seed, root hash and selection of each training that a run consists of."""
    for path in sorted(results_dir.glob("*/*/model.json")):
        if path.parent.name.isdecimal():
            run, seed = path.parent.parent.name, int(path.parent.name)
            trainings = dict.fromkeys(_trainings(files.read_json(path, stage="fit")))
            for root, selected in trainings:
                yield run, seed, root, selected


def _trainings(model: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yields root hash and selection of a model, and of the models that it was merged from."""
    params = model.get("params")
    section = params.get("data") if isinstance(params, dict) else None
    selected = section.get("selection") if isinstance(section, dict) else None
    yield str(model.get("root_sha256")), selected if isinstance(selected, str) else None
    parts = model.get("parts")
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict):
            yield from _trainings(part)


def _add(
    connection: duckdb.DuckDBPyConnection, catalog_dir: Path, root: str, selected: str | None
) -> bool:
    """Adds the samples of one build, or of one selection; returns whether they are known."""
    if not _ROOT.fullmatch(root):
        return False
    path = catalog_dir / _name(root)
    if path.is_file():
        try:
            connection.execute(
                f"INSERT INTO build_samples SELECT '{root}', post_id, split "  # noqa: S608  # 64 digits, and a quoted path
                f"FROM read_parquet('{pattern(path)}')"
            )
        except duckdb.Error as error:
            raise MissingInput(
                f"{path} cannot be read ({str(error).splitlines()[0]}). Restore it from a copy. Without "
                "a copy, move it away: which posts its runs saw is unknown then."
            ) from error
        return True
    samples = _selected(selected, root)
    if samples is None:
        return False
    connection.register("selected_samples", samples)
    insert = f"INSERT INTO build_samples SELECT '{root}', post_id, split FROM selected_samples"  # noqa: S608  # 64 digits
    connection.execute(insert)
    connection.unregister("selected_samples")
    return True


def _selected(reference: str | None, root: str) -> pa.Table | None:
    """Returns the samples of a selection; None if its file is gone or holds another one."""
    path = Path((reference or "").rpartition("@")[0])
    if not path.is_file():
        return None
    try:
        chosen = selection.read(path, most=_MOST_SAMPLES)
    except MissingInput:
        return None
    return chosen.samples if chosen.sha256 == root else None
