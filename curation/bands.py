"""The search of near hashes on a cluster: each band of the hashes is a task, which reads a file of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation import workers
from curation.hamming import Band, Hashes, Indices, codes_of_band
from personae import files
from personae.engine import Engine


@dataclass(frozen=True, slots=True)
class BandTask:
    """One band to search, and the file of the words of all hashes, `[4, rows]`."""

    path: Path
    band: Band


@dataclass(frozen=True, slots=True)
class SharedSearch:
    """Searches bands by an engine; the hashes lie in `folder` until the search ends."""

    folder: Path
    engine: Engine
    workers: int | None
    """Most bands at once; None: one per core."""

    def __call__(self, words: Hashes, bands: Sequence[Band]) -> Iterator[Indices]:
        """Yields the codes of the near pairs of each band; raises as `workers.mapped`."""
        path = self.folder / "hashes.npy"
        with files.whole_file(path) as file:
            np.save(file, words)
        try:
            yield from workers.mapped(
                search_band,
                [BandTask(path, band) for band in bands],
                engine=self.engine,
                workers=self.workers,
                stage="duplicates",
                shared_dir=self.folder,
            )
        finally:
            path.unlink()


def search_band(task: BandTask) -> Indices:
    """Returns the codes of the near pairs that one band finds."""
    return codes_of_band(np.load(task.path), task.band)
