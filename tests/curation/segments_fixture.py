"""A segment with the bytes of a few images, for functions that read stored images."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from curation.artwork import StoredArtwork


def store(folder: Path, files: Sequence[bytes]) -> tuple[StoredArtwork, ...]:
    """Writes the bytes into one segment; the post ids are the indices."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "00000.tar"
    stored, offset = [], 0
    for post_id, data in enumerate(files):
        sha256 = hashlib.sha256(data).hexdigest()
        stored.append(StoredArtwork(post_id, path.name, offset, len(data), sha256))
        offset += len(data)
    path.write_bytes(b"".join(files))
    return tuple(stored)
