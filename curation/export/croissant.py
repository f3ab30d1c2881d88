"""
Croissant 1.0 metadata of an exported data set (https://docs.mlcommons.org/croissant/docs/croissant-spec.html).

Describes the Parquet files and their columns, so that a loader of the format finds images and labels.
"""

import hashlib
from pathlib import Path
from typing import Any

from curation.export import parquet
from curation.export.build import ExportedBuild

NAME = "croissant.json"
_TYPES = {"label": "sc:Integer", "post_id": "sc:Integer", "white_background": "sc:Boolean"}
_TERMS = (
    "citeAs column extract field fileProperty fileObject fileSet format includes isLiveDataset jsonPath "
    "key md5 parentField path "
    "recordSet references regex repeated replace separator source subField transform"
)


def document(build: ExportedBuild, folder: Path) -> dict[str, Any]:
    """Returns the JSON-LD document of the Parquet export in `folder`."""
    total = sum(build.total(split) for split in build.splits)
    paths = [path for split in build.splits for path in parquet.files(folder, split)]
    return {
        "@context": _context(),
        "@type": "sc:Dataset",
        "name": f"personae_{build.sha256[:16]}",
        "description": f"{total} images of {len(build.labels)} labels, divided into splits.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "version": "1.0.0",
        "license": "Not recorded; see README.md.",
        "url": f"urn:sha256:{build.sha256}",
        "distribution": [_file(path) for path in paths],
        "recordSet": [_records(path.stem) for path in paths],
    }


def _file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "@type": "cr:FileObject",
        "@id": path.stem,
        "name": path.stem,
        "contentUrl": f"data/{path.name}",
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": digest,
    }


def _records(file: str) -> dict[str, Any]:
    """Returns the records of one file: a field for each column, `image` as decoded pixels."""
    name = f"{file}-samples"
    fields = [_field(name, column, file) for column in parquet.FIELDS]
    image = _field(name, "image", file) | {"dataType": "sc:ImageObject"}
    image["source"] |= {"transform": {"jsonPath": "bytes"}}
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": [image, *fields]}


def _field(records: str, column: str, file: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{records}/{column}",
        "name": column,
        "dataType": _TYPES.get(column, "sc:Text"),
        "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
    }


def _context() -> dict[str, Any]:
    """Returns the context that the specification requires word for word (its appendix 1)."""
    context: dict[str, Any] = {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "sc": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "dct": "http://purl.org/dc/terms/",
        "conformsTo": "dct:conformsTo",
    }
    typed = {"data": "@json", "examples": "@json", "dataType": "@vocab"}
    return (
        context
        | {term: f"cr:{term}" for term in _TERMS.split()}
        | {term: {"@id": f"cr:{term}", "@type": kind} for term, kind in typed.items()}
    )
