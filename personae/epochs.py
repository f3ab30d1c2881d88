"""The images of a split for torch: in the order of training, resumable at any sample."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from personae import sampling
from personae.build.index import Ints
from personae.build.stream import Streamed
from personae.errors import BadParams
from personae.sampling import Sampler

_DECODED: Final = 256  # most images that are decoded at once, on all cores
_DECODED_BYTES: Final = 1 << 26  # and most of their bytes


class EpochImages(IterableDataset[tuple[Tensor, int]]):
    """
    Yields image and leaf of each sample of an epoch; a new loop is the next epoch.

    An image is uint8, `[3, height, width]`, RGB. A loop that is left early goes on where it stopped.
    Images are decoded by threads on all cores, so that a `DataLoader` needs no workers. Of W processes
    each has every W-th sample of an epoch, equally many: the last ones, fewer than W, are left out.

    Args:
        images: The images, unread.
        leaves: Leaf of each image, `[image]`.
        post_ids: Post of each image, `[image]`.
        sampler: Draws the rows of an epoch; None: every image, in the given order.
        seed: Seed of the order.
        network: Network in training that the order depends on.
        rank: Number of this process among those that train together, from 0.
        world_size: Number of these processes.
    """

    def __init__(
        self,
        images: Streamed,
        leaves: Ints,
        post_ids: Ints,
        *,
        sampler: Sampler | None,
        seed: int,
        network: str,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._images, self._leaves, self._sampler = images, leaves, sampler
        samples = hashlib.sha256(post_ids.tobytes() + leaves.tobytes()).hexdigest()
        self._identity: dict[str, Any] = {
            "samples_sha256": samples,
            "seed": seed,
            "network": network,
            "balance": sampler.balance if sampler else None,
        }
        self._seed, self._network = seed, network
        self._rank, self._world_size = rank, world_size
        self.epoch = 0
        """Number of the epoch that the next sample belongs to, from 0."""
        self._position = 0  # in the order of all processes

    def __len__(self) -> int:
        """Counts the samples of an epoch in this process, the same in every process."""
        return self._epoch_samples // self._world_size

    @property
    def _epoch_samples(self) -> int:
        return self._sampler.epoch_images if self._sampler else len(self._leaves)

    def order(self, epoch: int) -> Ints:
        """Returns the rows of an epoch in their order, `[sample]`; a row counts the split's images."""
        if self._sampler is None:
            return np.arange(len(self._leaves))
        rows, _ = sampling.epoch_rows(
            self._sampler, seed=self._seed, network=self._network, epoch=epoch
        )
        return rows

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        """
        Yields the samples of the epoch that are left.

        Raises:
            BadParams: This is a worker process, which would have a position of its own.
            MissingInput, BadShard: A shard is absent or damaged.
        """
        if get_worker_info() is not None:
            raise BadParams(
                "A DataLoader with workers would yield each sample once per worker, and could not be "
                "resumed. Images are decoded by threads already: set num_workers=0."
            )
        left = self.order(self.epoch)[self._position :]
        each = len(left) // self._world_size
        rows = left[: each * self._world_size][self._rank :: self._world_size]
        if not each:  # fewer samples are left than there are processes
            self.epoch, self._position = self.epoch + 1, 0
        at_once = max(1, min(_DECODED, _DECODED_BYTES // (3 * self._images.side**2)))
        for start in range(0, each, at_once):
            chunk = rows[start : start + at_once]
            images = torch.from_numpy(self._images[chunk]).permute(0, 3, 1, 2)
            leaves = self._leaves[chunk].tolist()
            for offset, leaf in enumerate(leaves):
                # Counted before the sample is given away: whoever has it may save the state.
                self._position += self._world_size
                if start + offset + 1 == each:
                    self.epoch, self._position = self.epoch + 1, 0
                yield images[offset], leaf

    def state_dict(self) -> dict[str, Any]:
        """Returns epoch and position, and what the order depends on; as plain JSON values."""
        return {**self._identity, "epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Continues where the dataset of `state` stopped, also with another number of processes.

        The state is that of any process, all of which have taken the same number of samples.

        Raises:
            BadParams: The state is of other samples or another order, or its position is impossible.
        """
        for name, value in self._identity.items():
            if name not in state or state[name] != value:
                raise BadParams(
                    f"The state has {name} {state.get(name)!r}, and this dataset {value!r}: it would "
                    "continue in another order. Open the dataset that the state was saved from."
                )
        epoch, position = state.get("epoch"), state.get("position")
        if (
            not isinstance(epoch, int)
            or not isinstance(position, int)
            or epoch < 0
            or not 0 <= position < self._epoch_samples
        ):
            raise BadParams(
                f"The state has epoch {epoch!r} and position {position!r}; an epoch has "
                f"{self._epoch_samples} samples. Load a state that `state_dict` returned."
            )
        self.epoch, self._position = epoch, position
