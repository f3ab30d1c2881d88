"""Where the shards of a training lie: in the data folder, or at a URL behind a bounded cache."""

import logging
from pathlib import Path

from personae.build.index import DataIndex, read_index
from personae.storage.build import RemoteBuild, RemoteShards
from train.params.data import Source

log = logging.getLogger(__name__)


def open_index(
    shards_dir: Path, cache_dir: Path, source: Source | None, selection: str | None = None
) -> DataIndex:
    """
    Returns the index of the shards, or of a selection of their samples; raises as `read_index`.

    Args:
        shards_dir: Folder of the shards; not read if `source` has a URL.
        cache_dir: Folder of caches, with that of storages in it.
        source: URL and bound of the cache; None: the folder.
        selection: The value of the parameter `data.selection`.

    Raises as `RemoteBuild.open` where there is a URL.
    """
    if source is None or source.url is None:
        return read_index(shards_dir, selection)
    build = RemoteBuild.open(source.url, cache_dir / "storage", cache_bytes=source.cache_bytes)
    log.info("shards: %s, root hash %s", source.url, build.index.root_sha256[:12])
    return read_index(build.shards_dir, selection, files=RemoteShards(build))
