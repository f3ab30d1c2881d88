"""Some images of an array, which stay where they are until they are indexed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8


@dataclass(frozen=True, slots=True)
class ImageRows:
    """The images at `rows` of an array, often a memory map; a batch alone is copied."""

    images: UInt8[np.ndarray, "image height width 3"]
    rows: Int[np.ndarray, " row"]

    def __reduce__(self) -> Any:
        """Pickles the path of a memory map instead of its pixels."""
        if isinstance(self.images, np.memmap) and self.images.filename is not None:
            return _reopened, (Path(self.images.filename), self.rows)
        return ImageRows, (self.images, self.rows)

    def __len__(self) -> int:
        """Counts the chosen images."""
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Chosen images, height, width, channels."""
        _, height, width, channels = self.images.shape
        return len(self), height, width, channels

    def __getitem__(
        self, chosen: Int[np.ndarray, " batch"] | slice
    ) -> UInt8[np.ndarray, "batch height width 3"]:
        """Copies the images at `chosen`, in that order."""
        return np.asarray(self.images[self.rows[chosen]])


def _reopened(path: Path, rows: Int[np.ndarray, " row"]) -> ImageRows:
    return ImageRows(np.load(path, mmap_mode="r"), rows)
