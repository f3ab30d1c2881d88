"""
The card of an exported data set (README.md): where it comes from, what is in it, and who owns it.

Its head is that of the cards of the Hugging Face Hub
(https://huggingface.co/docs/hub/datasets-cards).
"""

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import yaml

from curation.documents import CertificateDocument
from curation.export import parquet
from curation.export.build import ExportedBuild
from personae.text import code

_RATINGS = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))
_MOST_SOURCES = 10
_HOST = "regexp_extract(source_url, '^https?://([^/?#:]+)', 1)"
_RIGHTS = (
    "No licence is given here. The images belong to their artists; the columns `artist`, `source_url` "
    "and `licence` hold what their source noted. Publishing or training may need "
    "permission. Whoever asks for a removal: `python -m curation remove`, then export again."
)


def write(build: ExportedBuild, *, form: str) -> str:
    """Returns the text of the card for an export in `form`, parquet or folder."""
    parts = [_head(build, form), "# Data set card", _origin(build), "## Samples", _samples(build)]
    parts += ["## From board to data set", _funnel(build)]
    if (certificate := build.certificate) is not None:
        parts += ["## Splits", _splits(certificate)]
    parts += ["## Ratings", _ratings(build), "## Sources and rights", _sources(build), _RIGHTS]
    return "\n\n".join(parts) + "\n"


def _splits(certificate: CertificateDocument) -> str:
    closest = certificate.closest
    outcome = (
        "No duplicate crosses the splits."
        if certificate.passed
        else "Duplicates cross the splits, which are those of the source."
    )
    nearest = (
        f"; the closest pair of different splits differs in {closest.distance}" if closest else ""
    )
    return (
        f"{outcome} Two images are near duplicates if at most {certificate.distance} of the 256 bits of "
        f"their perceptual hashes differ{nearest}. The whole certificate is "
        "`data/split/certificate.json` of the build."
    )


def _head(build: ExportedBuild, form: str) -> str:
    total = sum(build.total(split) for split in build.splits)
    size = next((name for most, name in _SIZES if total < most), "1M<n<10M")
    head: dict[str, Any] = {
        "license": "unknown",
        "task_categories": ["image-classification"],
        "size_categories": [size],
    }
    if form == "parquet":
        data_files = [
            {"split": name, "path": f"data/{name}-*.parquet"}
            for split, name in parquet.SPLIT_NAMES.items()
            if split in build.splits
        ]
        head["configs"] = [{"config_name": "default", "data_files": data_files}]
    return f"---\n{yaml.safe_dump(head, sort_keys=False).rstrip()}\n---"


def _origin(build: ExportedBuild) -> str:
    image = build.manifest.image
    what = f"Squares of {image.side} pixels, {image.format}."
    lines = [f"- Root hash of the shards: `{build.manifest.root_sha256}`"]
    if build.query is not None:
        lines += [f"- Selection: `{build.sha256}`", f"- Query: {code(build.query)}"]
    made = f"Made by Personae {metadata.version('personae')}. {what}"
    return "\n\n".join([made, "\n".join(lines)])


def _samples(build: ExportedBuild) -> str:
    rows = [
        (code(label), *(str(build.counts[label][split]) for split in build.splits))
        for label in build.labels
    ]
    rows.append(("all", *(str(build.total(split)) for split in build.splits)))
    return _table(("label", *build.splits), rows)


def _funnel(build: ExportedBuild) -> str:
    stages = build.rows("SELECT stage, outcome, posts FROM funnel ORDER BY position, posts DESC")
    return _table(("stage", "outcome", "posts"), [tuple(map(str, row)) for row in stages])


def _ratings(build: ExportedBuild) -> str:
    rows = [
        (_RATINGS.get(name, code(name)), str(samples))
        for name, samples in sorted(build.tally("rating"))
    ]
    return _table(("rating", "samples"), rows)


def _sources(build: ExportedBuild) -> str:
    hosts = build.tally(_HOST)
    artists = sum(samples for artist, samples in build.tally("artist") if artist)
    rows = [(code(host or "none"), str(samples)) for host, samples in hosts[:_MOST_SOURCES]]
    licences = sum(samples for licence, samples in build.tally("licence") if licence)
    noted = f"An artist is recorded for {artists} samples, a note on the licence for {licences}."
    return f"{noted}\n\n{_table(('source', 'samples'), rows)}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
