"""Fingerprints by which a run notices that it would write the same tables again."""

import hashlib
from functools import cache
from pathlib import Path

import pyarrow as pa

import personae

_FOLDERS = (Path(__file__).parent, Path(personae.__file__).parent)
_NO_PART = "demo"


@cache
def program() -> str:
    """Returns the sha256 of the source files that write tables, and of the version of pyarrow."""
    digest = hashlib.sha256(pa.__version__.encode())
    for folder in _FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            if path.relative_to(folder).parts[0] != _NO_PART:
                digest.update(f"{path.relative_to(folder.parent)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def tables(folder: Path) -> dict[str, str]:
    """Returns the sha256 of every table in `folder` by name."""
    digests = {}
    for path in sorted(folder.glob("*.parquet")):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
