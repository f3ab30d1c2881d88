"""
`python -m train report`: compares all predictions, with intervals and figures, on one page.

Reads results/RUN/SEED/*, data/clustering, data/shards and, where they are, the catalog, the
certificate of data/split and results/noise.
Writes results/report/{index.html, comparison.parquet} and each figure as SVG with its CSV.
"""

import csv
import io
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pyarrow as pa

from personae import files, tables
from personae.text import spreadsheet_cell
from train import guards
from train.page import (
    answer,
    catalog,
    closest,
    comparison,
    contents,
    drawings,
    funnel,
    mosaic,
    noise,
    page,
    provenance,
    results,
    slices,
    thumbnails,
    tree,
)
from train.page.figures import Drawing
from train.params.report import Params

log = logging.getLogger(__name__)


def run(
    params: Params,
    *,
    data_dir: Path,
    results_dir: Path,
    runs: Mapping[str, results.RunLike],
    seeds: Sequence[int],
    project_dir: Path = Path(),
) -> None:
    """
    Writes the report of the flat run and of `runs` over `seeds` into `results_dir`/report.

    `project_dir` is the folder of params.yaml and dvc.lock, which the page names as its origin.

    Raises:
        MissingInput: A stage above has not written what the report needs.
        MixedResults: Its inputs were made from different data.
        BadShard: An image of the mosaic cannot be read from the shards.
    """
    read = results.read(data_dir=data_dir, results_dir=results_dir, runs=runs, seeds=seeds)
    compared = comparison.compare(read, resamples=params.resamples, seed=params.seed)
    with catalog.opened(data_dir / "catalog" / "catalog.duckdb") as source:
        steps, posts = funnel.read(source), slices.read_posts(source)
    images = thumbnails.opened(data_dir / "shards", side=read.manifest.image.side)
    trees = _trees(read, compared)
    drawn = drawings.draw(read, compared, steps, trees)
    warnings = _warnings(read)
    origin = provenance.facts(
        project_dir,
        commits=(made.fit.commit for run in read.runs for made in run.seeds.values()),
    )
    written = _answer(read, compared, warnings, preset=origin.get("Preset", provenance.NO_PRESET))
    sections = contents.sections(
        read,
        compared,
        answer=written,
        steps=steps,
        drawings=drawn,
        tiles=_tiles(read, compared, params, images),
        trees=trees,
        parts=slices.slices(read, posts),
        near=closest.read(data_dir / "split" / "certificate.json", images),
        doubts=noise.read(
            results_dir / "noise" / "noise.parquet",
            root_sha256=read.manifest.root_sha256,
            each=params.suspects,
        ),
        confusions=params.confusions,
        params=params.model_dump(),
        provenance=origin,
        versions={name: metadata.version(name) for name in ("matplotlib", "numpy")},
    )
    for warning in warnings:
        log.warning("report: %s", warning)
    out_dir = results_dir / "report"
    html = page.assemble(sections, [run.name for run in read.runs])
    _write(out_dir, drawn.values(), compared=comparison.table(read, compared), html=html)
    log.info(
        "report: %d runs, %d seeds, %s: %s", len(read.runs), len(seeds), out_dir, written.verdict
    )


def _write(out_dir: Path, drawn: Iterable[Drawing], *, compared: pa.Table, html: str) -> None:
    shutil.rmtree(out_dir, ignore_errors=True)  # figures of runs that are gone
    for drawing in drawn:
        files.write_text(out_dir / f"{drawing.name}.svg", f'<?xml version="1.0"?>\n{drawing.svg}')
        files.write_text(out_dir / f"{drawing.name}.csv", _csv(drawing))
    tables.write(out_dir / "comparison.parquet", compared)
    # Last: where the page exists, everything beside it is complete.
    files.write_text(out_dir / "index.html", html)


def _trees(read: results.Results, compared: comparison.RunComparison) -> dict[str, tree.TreeNode]:
    """The tree of each hierarchy with its first seed, by run."""
    return {
        row.run.name: tree.build(row, compared.flat, read.labels, seed=next(iter(row.predictions)))
        for row in compared.hierarchies
    }


def _answer(
    read: results.Results,
    compared: comparison.RunComparison,
    warnings: Sequence[str],
    *,
    preset: str,
) -> answer.ReportAnswer:
    return answer.write(
        compared,
        images=len(read.white),
        data=_data(read, preset),
        warnings=warnings,
        is_ungrouped=bool(read.ungrouped),
    )


def _data(read: results.Results, preset: str) -> str:
    images = ", ".join(f"{split} {n:,}" for split, n in read.manifest.samples.items())
    origin = "" if preset == provenance.NO_PRESET else f"; preset {preset}"
    return f"Data: {len(read.labels)} labels; images: {images}{origin}."


def _warnings(read: results.Results) -> list[str]:
    """What weakens every conclusion; the page and the log show each sentence once."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in read.ungrouped.items():
        by_reason.setdefault(reason, []).append(name)
    ungrouped = [
        f"Nothing to group for {', '.join(names)}: left out, because they would be the flat "
        f"network. {reason}"
        for reason, names in by_reason.items()
    ]
    records = [
        guards.record_of(
            trained.model,
            trained.fit,
            run=run.name,
            validation=read.manifest.samples.get("val", 0),
            curves=trained.curves,
        )
        for run in read.runs
        for trained in run.seeds.values()
    ]
    return [*ungrouped, *guards.of_results(records)]


def _tiles(
    read: results.Results,
    compared: comparison.RunComparison,
    params: Params,
    images: thumbnails.Thumbnails,
) -> list[list[mosaic.Tile]]:
    seed = read.seeds[0]
    flat = compared.flat.predictions[seed]
    other = compared.main.predictions.get(seed) if compared.main else None
    rows = mosaic.choose(flat, leaves=len(read.labels), each=params.samples, seed=params.seed)
    return mosaic.read(rows, flat, other, images)


def _csv(drawing: Drawing) -> str:
    text = io.StringIO()
    # With this line end a carriage return inside a label is quoted, and starts no new row.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(drawing.columns)
    writer.writerows([spreadsheet_cell(value) for value in row] for row in drawing.rows)
    return text.getvalue()
