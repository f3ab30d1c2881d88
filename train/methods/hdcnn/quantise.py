"""
Product quantisation: a weight matrix as small codebooks and an index into them (methods.md 6.6).

The columns are cut into segments; in each of them the rows are grouped by k-means, and a row keeps
the number of its centre, in 8 bits, instead of its values.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, from_numpy, nn

from personae.errors import BadParams

_RESTARTS, _ROUNDS = 10, 100  # starts of k-means; moves of the centres, should it not settle before
LARGEST = 256  # centres that 8 bits can name
_ROOM = 4_000_000  # distances that are held at once


@dataclass(frozen=True, slots=True)
class Quantised:
    """A matrix of m rows and n columns in segments of `width` columns."""

    centres: Float[np.ndarray, "centre column"]
    """Of every segment at the place of its columns, in 32 bits."""
    indices: Int[np.ndarray, "row segment"]
    """Which centre of a segment stands for a row, in 8 bits."""
    width: int

    @property
    def bits(self) -> int:
        """32 k n for the centres and 8 m n / s for the indices."""
        return 32 * self.centres.size + 8 * self.indices.size

    @property
    def factor(self) -> float:
        """
        How many times fewer bits these are than 32 m n.

        Example:
            m = n = 1000, k = 64, s = 2: 5.291005.
        """
        return float(32 * len(self.indices) * self.centres.shape[1] / self.bits)

    def restored(self) -> Float[np.ndarray, "row column"]:
        """Returns the matrix that the centres make."""
        columns = np.arange(self.centres.shape[1])
        return np.asarray(self.centres[self.indices[:, columns // self.width], columns])


@dataclass(frozen=True, slots=True)
class Storage:
    """What weights take before and after."""

    bytes_before: int
    bytes_after: int

    @property
    def factor(self) -> float:
        """Before divided by after."""
        return self.bytes_before / self.bytes_after


def quantise(
    weight: Float[np.ndarray, "row column"], *, codebook: int, width: int, seed: int = 0
) -> Quantised:
    """
    Returns the matrix with at most `codebook` centres for each segment of `width` columns.

    A last segment may be narrower. With as many centres as a segment has different rows nothing is
    lost. The same seed gives the same centres.

    Raises:
        BadParams: 8 bits cannot name so many centres.

    Example:
        [[1, 0, 2, 2], [1, 0, 0, 1], [0, 1, 2, 2], [0, 1, 0, 1]] with 2 centres of width 2 is exact,
        in 320 bits of 512.
    """
    if not 1 <= codebook <= LARGEST:
        raise BadParams(
            f"A codebook has 1 to {LARGEST} centres, and {codebook} were asked for: an index has 8 "
            "bits. Take fewer, or wider segments."
        )
    rows, columns = weight.shape
    count = min(codebook, rows)
    rng = np.random.default_rng(seed)
    whole = columns // width * width
    centres = np.empty((count, columns))
    indices = np.empty((rows, -(-columns // width)), dtype=np.int64)
    for start, stop, own in _spans(columns, whole, width, room=max(1, _ROOM // (rows * count))):
        segments = weight[:, start:stop].reshape(rows, -1, own).transpose(1, 0, 2)
        found, owners = k_means(segments.astype(np.float64), clusters=count, rng=rng)
        centres[:, start:stop] = found.transpose(1, 0, 2).reshape(count, -1)
        first = start // width
        indices[:, first : first + len(segments)] = owners.T
    return Quantised(centres, indices, width)


def k_means(
    points: Float[np.ndarray, "problem point dimension"],
    *,
    clusters: int,
    rng: np.random.Generator,
    restarts: int = _RESTARTS,
) -> tuple[Float[np.ndarray, "problem cluster dimension"], Int[np.ndarray, "problem point"]]:
    """
    Returns centres and owners of many small problems at once, the best of `restarts` for each.

    Starts are drawn by k-means++ (Arthur and Vassilvitskii 2007); a centre that no point is near to
    takes the point that is farthest from its own.

    Example:
        (1, 0), (3, 0), (10, 10), (12, 10) in two: (2, 0) and (11, 10), squared error 4.
    """
    best, least, owned = None, np.full(len(points), np.inf), None
    for _ in range(restarts):
        centres, owners, errors = _settled(points, _drawn(points, clusters, rng))
        if best is None or owned is None:
            best, least, owned = centres, errors, owners
            continue
        better = errors < least
        best[better], least[better], owned[better] = centres[better], errors[better], owners[better]
    assert best is not None, "there is a start at least"  # noqa: S101  # our own mistake
    assert owned is not None, "there is a start at least"  # noqa: S101  # our own mistake
    return best, owned


def compress(
    module: nn.Module, *, codebook: int, width: int, but: str = "predictions", seed: int = 0
) -> Storage:
    """
    Replaces the weights of convolutions and dense layers by what quantisation leaves of them.

    A kernel is flattened to (out) x (in · height · width). Layers named `but`, biases and norms stay
    as they are, and so does a layer that would not become smaller; their bytes count on both sides.
    """
    for layer, _ in _smaller(module, codebook=codebook, width=width, but=but):
        matrix = layer.weight.detach().cpu().flatten(1).numpy()
        found = quantise(matrix, codebook=codebook, width=width, seed=seed)
        _put(layer.weight, found.restored())
    return storage(module, codebook=codebook, width=width, but=but)


def storage(module: nn.Module, *, codebook: int, width: int, but: str = "predictions") -> Storage:
    """Returns what `compress` makes of the bytes, without touching the weights."""
    before = 4 * sum(weight.numel() for weight in module.parameters())
    layers = _smaller(module, codebook=codebook, width=width, but=but)
    return Storage(before, before - sum(saved // 8 for _, saved in layers))


def _smaller(
    module: nn.Module, *, codebook: int, width: int, but: str
) -> Iterator[tuple[nn.Conv2d | nn.Linear, int]]:
    """Yields the layers that become smaller, and the bits that each saves."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and name.split(".")[-1] != but:
            rows, columns = layer.weight.flatten(1).shape
            bits = 32 * min(codebook, rows) * columns + 8 * rows * -(-columns // width)
            if bits < 32 * rows * columns:
                yield layer, 32 * rows * columns - bits


def _put(weight: Tensor, values: np.ndarray) -> None:
    weight.data.copy_(from_numpy(values).reshape(weight.shape))


def _spans(columns: int, whole: int, width: int, *, room: int) -> Iterator[tuple[int, int, int]]:
    """Columns from, to, and the width of their segments: `room` segments at once, the narrow last."""
    for start in range(0, whole, room * width):
        yield start, min(start + room * width, whole), width
    if whole < columns:
        yield whole, columns, columns - whole


def _drawn(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    every = np.arange(len(points))
    first = rng.integers(points.shape[1], size=len(points))
    centres = np.empty((len(points), clusters, points.shape[2]))
    centres[:, 0] = points[every, first]
    nearest = ((points - centres[:, :1]) ** 2).sum(axis=2)
    for place in range(1, clusters):
        sums = nearest.cumsum(axis=1)
        wanted = rng.random(len(points))[:, None] * sums[:, -1:]
        # Points at distance 0 are never drawn while there are others.
        chosen = np.minimum((sums <= wanted).sum(axis=1), points.shape[1] - 1)
        centres[:, place] = points[every, chosen]
        distance = ((points - centres[:, place : place + 1]) ** 2).sum(axis=2)
        nearest = np.minimum(nearest, distance)
    return centres


def _settled(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves centres to the mean of their points until no point changes its owner."""
    owners = np.full(points.shape[:2], -1)
    moving = np.arange(len(points))
    for _ in range(_ROUNDS):
        squares = _squares(points[moving], centres[moving])
        fresh = squares.argmin(axis=2)
        _repair(
            fresh, np.take_along_axis(squares, fresh[:, :, None], axis=2)[:, :, 0], centres.shape[1]
        )
        changed = (fresh != owners[moving]).any(axis=1)
        moving, fresh = moving[changed], fresh[changed]
        if not len(moving):
            break
        owners[moving] = fresh
        inside = fresh[:, :, None] == np.arange(centres.shape[1])
        counts = inside.sum(axis=1)[:, :, None]
        sums = np.einsum("spk,spd->skd", inside, points[moving], optimize=True)
        centres[moving] = np.where(counts > 0, sums / np.maximum(counts, 1), centres[moving])
    own = np.take_along_axis(centres, owners[:, :, None], axis=1)
    return centres, owners, ((points - own) ** 2).sum(axis=(1, 2))


def _repair(owners: np.ndarray, distances: np.ndarray, clusters: int) -> None:
    """Gives each centre without points the farthest point of a cluster with several, in place."""
    counts = (owners[:, :, None] == np.arange(clusters)).sum(axis=1)
    for problem, empty in np.argwhere(counts == 0):
        own = counts[problem][owners[problem]]
        left = np.where(own > 1, distances[problem], 0.0)
        farthest = int(left.argmax())
        if left[farthest] > 0:
            counts[problem, owners[problem, farthest]] -= 1
            owners[problem, farthest], distances[problem, farthest] = empty, 0.0
            counts[problem, empty] = 1


def _squares(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    result = np.zeros((len(points), points.shape[1], centres.shape[1]))
    for axis in range(points.shape[2]):
        result += (points[:, :, None, axis] - centres[:, None, :, axis]) ** 2
    return result
