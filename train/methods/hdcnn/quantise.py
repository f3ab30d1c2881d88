"""
Product quantisation: stores a weight matrix as codebooks of centres and 8-bit indices.

The columns are cut into segments. In each segment k-means groups the rows, and a row is stored as
the index of its centre instead of its values.

Source: Yan et al., HD-CNN, ICCV 2015, section HD-CNN Testing, parameter compression; k-means++ by
Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding, SODA 2007.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, from_numpy, nn

from personae.errors import BadParams

_RESTARTS = 10  # random initialisations of k-means, of which the best is kept
_ITERATIONS = 100  # at most, of each k-means
LARGEST = 256  # centres that an 8-bit index can address
_MAX_DISTANCES = 4_000_000  # in memory at once


@dataclass(frozen=True, slots=True)
class Quantised:
    """A quantised matrix of m rows and n columns, in segments of s = `width` columns."""

    centres: Float[np.ndarray, "centre column"]
    """The centres of each segment, in the columns of the segment; 32 bits per value."""
    indices: Int[np.ndarray, "row segment"]
    """Index of a row's centre in each segment; 8 bits per index."""
    width: int
    """Columns per segment; the last segment may have fewer."""

    @property
    def bits(self) -> int:
        """Bits of storage: 32 k n for the k centres and 8 m n / s for the indices."""
        return 32 * self.centres.size + 8 * self.indices.size

    @property
    def factor(self) -> float:
        """
        Compression factor 32 m n / (32 k n + 8 m n / s).

        Example:
            m = n = 1000, k = 64, s = 2: 5.291005.
        """
        return float(32 * len(self.indices) * self.centres.shape[1] / self.bits)

    def restored(self) -> Float[np.ndarray, "row column"]:
        """Returns the matrix in which every row is replaced by its centres."""
        columns = np.arange(self.centres.shape[1])
        return np.asarray(self.centres[self.indices[:, columns // self.width], columns])


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes of the weights before and after quantisation."""

    bytes_before: int
    bytes_after: int

    @property
    def factor(self) -> float:
        """Compression factor: bytes before divided by bytes after."""
        return self.bytes_before / self.bytes_after


def quantise(
    weight: Float[np.ndarray, "row column"], *, codebook: int, width: int, seed: int = 0
) -> Quantised:
    """
    Quantises a matrix with at most `codebook` centres for each segment of `width` columns.

    The result is exact if no segment has more distinct rows than centres. The same seed gives the
    same centres.

    Raises:
        BadParams: `codebook` is not in 1..256.

    Example:
        [[1, 0, 2, 2], [1, 0, 0, 1], [0, 1, 2, 2], [0, 1, 0, 1]] with 2 centres of width 2 is exact,
        in 320 bits of 512.
    """
    if not 1 <= codebook <= LARGEST:
        raise BadParams(
            f"A codebook of {codebook} centres is impossible: an index has 8 bits, for 1 to "
            f"{LARGEST} centres. Set fewer centres, or wider segments."
        )
    rows, columns = weight.shape
    count = min(codebook, rows)
    rng = np.random.default_rng(seed)
    whole = columns // width * width
    centres = np.empty((count, columns))
    indices = np.empty((rows, -(-columns // width)), dtype=np.int64)
    for start, stop, own in _spans(
        columns, whole, width, at_once=max(1, _MAX_DISTANCES // (rows * count))
    ):
        segments = weight[:, start:stop].reshape(rows, -1, own).transpose(1, 0, 2)
        own_centres, owners = k_means(segments.astype(np.float64), clusters=count, rng=rng)
        centres[:, start:stop] = own_centres.transpose(1, 0, 2).reshape(count, -1)
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
    Solves many small k-means problems at once; returns their centres and the centre of each point.

    Of `restarts` initialisations by k-means++ the result with the least squared error is kept. A
    centre without points takes the point that is farthest from its own centre.

    Example:
        (1, 0), (3, 0), (10, 10), (12, 10) in two: (2, 0) and (11, 10), squared error 4.
    """
    best, least, owned = None, np.full(len(points), np.inf), None
    for _ in range(restarts):
        centres, owners, errors = _converged(points, _initial(points, clusters, rng))
        if best is None or owned is None:
            best, least, owned = centres, errors, owners
            continue
        better = errors < least
        best[better], least[better], owned[better] = centres[better], errors[better], owners[better]
    assert best is not None, "there is a restart"  # noqa: S101  # our own mistake
    assert owned is not None, "there is a restart"  # noqa: S101  # our own mistake
    return best, owned


def compress(
    module: nn.Module, *, codebook: int, width: int, but: str = "predictions", seed: int = 0
) -> Storage:
    """
    Replaces the weights of convolutions and dense layers by their quantised values, in place.

    A kernel is a matrix of out rows and in · height · width columns. Layers named `but`, biases,
    norms and layers that would not become smaller keep their weights; their bytes count before and
    after.
    """
    for layer, _ in _smaller(module, codebook=codebook, width=width, but=but):
        matrix = layer.weight.detach().cpu().flatten(1).numpy()
        quantised = quantise(matrix, codebook=codebook, width=width, seed=seed)
        _copy(layer.weight, quantised.restored())
    return storage(module, codebook=codebook, width=width, but=but)


def storage(module: nn.Module, *, codebook: int, width: int, but: str = "predictions") -> Storage:
    """Returns the bytes before and after `compress`; the weights do not change."""
    before = 4 * sum(weight.numel() for weight in module.parameters())
    layers = _smaller(module, codebook=codebook, width=width, but=but)
    return Storage(before, before - sum(saved // 8 for _, saved in layers))


def _smaller(
    module: nn.Module, *, codebook: int, width: int, but: str
) -> Iterator[tuple[nn.Conv2d | nn.Linear, int]]:
    """Yields each layer that becomes smaller, with the bits saved."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and name.split(".")[-1] != but:
            rows, columns = layer.weight.flatten(1).shape
            bits = 32 * min(codebook, rows) * columns + 8 * rows * -(-columns // width)
            if bits < 32 * rows * columns:
                yield layer, 32 * rows * columns - bits


def _copy(weight: Tensor, values: np.ndarray) -> None:
    weight.data.copy_(from_numpy(values).reshape(weight.shape))


def _spans(columns: int, whole: int, width: int, *, at_once: int) -> Iterator[tuple[int, int, int]]:
    """Yields first column, end and segment width of `at_once` segments; the narrow segment last."""
    for start in range(0, whole, at_once * width):
        yield start, min(start + at_once * width, whole), width
    if whole < columns:
        yield whole, columns, columns - whole


def _initial(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Returns centres drawn by k-means++: with probability proportional to the squared distance."""
    every = np.arange(len(points))
    first = rng.integers(points.shape[1], size=len(points))
    centres = np.empty((len(points), clusters, points.shape[2]))
    centres[:, 0] = points[every, first]
    nearest = ((points - centres[:, :1]) ** 2).sum(axis=2)
    for index in range(1, clusters):
        sums = nearest.cumsum(axis=1)
        thresholds = rng.random(len(points))[:, None] * sums[:, -1:]
        # Points at distance 0 are never drawn while there are others.
        chosen = np.minimum((sums <= thresholds).sum(axis=1), points.shape[1] - 1)
        centres[:, index] = points[every, chosen]
        distance = ((points - centres[:, index : index + 1]) ** 2).sum(axis=2)
        nearest = np.minimum(nearest, distance)
    return centres


def _converged(
    points: np.ndarray, centres: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves centres to the mean of their points until no point changes its owner."""
    owners = np.full(points.shape[:2], -1)
    moving = np.arange(len(points))
    for _ in range(_ITERATIONS):
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
