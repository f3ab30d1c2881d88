"""
Batches of one network's training set: their images, their order, and their transfer to the device.

The order of an epoch is a pure function of seed, network and epoch. Of N processes each takes every
N-th image of a batch. So training can resume after any epoch, with any number of processes.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from personae import sampling
from personae.errors import BadParams
from train.data import augment
from train.data.augment import Draws
from train.engine.task import Task
from train.params.augment import Params as AugmentParams
from train.runtime import seeds

_PREFETCH = 2  # batches that are fetched while the device computes


@dataclass(frozen=True, slots=True)
class Batch:
    """The part of one update's batch that one process computes."""

    inputs: Float[Tensor, "image 3 height width"]
    targets: Int[Tensor, " image"]
    """Output index of each image."""
    weight: float
    """Sum of the image weights over the batches of all processes; divides the sum of losses."""


@dataclass(frozen=True, slots=True)
class Order:
    """The images of every epoch, in order, for one of `world_size` processes."""

    task: Task
    seed: int
    batch_size: int
    """Images of one update, over all processes."""
    rank: int = 0
    world_size: int = 1
    least: int | None = None
    """Fewest images of the last batch of an epoch; None: two for each process."""

    def continuing(self, least: int) -> "Order":
        """
        Returns the order of a training that began with `least`, for the processes of today.

        The batches of an epoch are those of the beginning, however many processes compute them.

        Raises:
            BadParams: The last batch of an epoch has fewer than two images for a process.
        """
        order = replace(self, least=least)
        start, stop = order.spans(self.task.sampler.epoch_images)[-1]
        if least < 2 * self.world_size > stop - start:
            raise BadParams(
                f"The last batch of an epoch of network '{self.task.name}' has {stop - start} images, "
                f"and {self.world_size} processes need two images each. Its training began with fewer "
                f"processes: continue it with at most {max(1, (stop - start) // 2)}."
            )
        return order

    @property
    def smallest(self) -> int:
        """Fewest images of the last batch of an epoch, which a checkpoint keeps."""
        return 2 * self.world_size if self.least is None else self.least

    def rows(self, epoch: int) -> Int[np.ndarray, " position"]:
        """Returns the rows of the whole epoch, the same on every process."""
        return self._drawn(epoch)[0]

    def ids(self, epoch: int, *, start: int = 0) -> Iterator[Int[np.ndarray, " batch"]]:
        """Yields the post ids of this process, batch by batch, from update `start` on."""
        rows = self.rows(epoch)
        for positions in self.positions(len(rows))[start:]:
            yield self.task.data.train.post_ids[rows[positions]]

    def spans(self, count: int) -> list[tuple[int, int]]:
        """Returns where each batch of an epoch of `count` images starts and stops."""
        return spans(count, self.batch_size, least=self.smallest)

    def positions(self, count: int) -> list[Int[np.ndarray, " batch"]]:
        """Returns the positions of this process in each batch of an epoch of `count` images."""
        return [
            np.arange(start, stop)[self.rank :: self.world_size]
            for start, stop in self.spans(count)
        ]

    def draws(
        self, epoch: int, params: AugmentParams
    ) -> tuple[Int[np.ndarray, " position"], Draws]:
        """Returns the rows of the epoch and the random numbers of augmentation for each."""
        rows, rng = self._drawn(epoch)
        return rows, augment.draw(params, len(rows), rng, side=self.task.data.side)

    def _drawn(self, epoch: int) -> tuple[Int[np.ndarray, " position"], np.random.Generator]:
        # torch's generator, for dropout, differs by rank; the order does not.
        rank = ("rank", self.rank) if self.rank else ()
        seeds.seed(self.seed, self.task.name, "epoch", epoch, *rank)
        return sampling.epoch_rows(
            self.task.sampler, seed=self.seed, network=self.task.name, epoch=epoch
        )


class Feed:
    """Fetches and augments the batches of an epoch, and measures the time spent waiting."""

    def __init__(
        self,
        order: Order,
        *,
        augmentation: AugmentParams,
        mean: Float[Tensor, "3"],
        weights: Float[Tensor, " output"] | None,
        device: torch.device,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """
        Takes the class weights of the outputs; None gives every output the same weight.

        `clock` returns seconds since any start.
        """
        self._clock = clock
        self._order, self._augmentation, self._mean = order, augmentation, mean
        self._weights, self._device = weights, device
        self.waited = 0.0
        """Seconds spent waiting for images, in the current epoch."""
        self.augmented = 0.0
        """Seconds spent on augmentation; on an accelerator only the time to queue it."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yields the batches of an epoch, for this process."""
        task, device = self._order.task, self._device
        rows, draws = self._order.draws(number, self._augmentation)
        targets = torch.from_numpy(task.outputs[task.data.train.labels[rows]])
        positions = self._order.positions(len(rows))
        batches = self._fetched([rows[own] for own in positions])
        for own, (start, stop) in zip(positions, self._order.spans(len(rows)), strict=True):
            began = self._clock()
            images = next(batches)
            self.waited += self._clock() - began
            began = self._clock()
            inputs = augment.apply(
                images, draws.at(own), params=self._augmentation, mean=self._mean
            )
            self.augmented += self._clock() - began
            yield Batch(inputs, targets[own].to(device), self._weight(targets[start:stop]))

    def _weight(self, targets: Int[Tensor, " batch"]) -> float:
        if self._weights is None:
            return float(len(targets))
        return float(self._weights[targets.to(self._device)].sum())

    def _fetched(self, batches: list[np.ndarray]) -> Iterator[UInt8[Tensor, "image h w 3"]]:
        """Yields the images of each batch on the device; prefetches if batches are slow to fetch."""
        train = self._order.task.data.train
        if not train.slow:
            for rows in batches:
                yield train.batch(rows).to(self._device, non_blocking=True)
            return
        with ThreadPoolExecutor(1) as pool:
            pending = deque(pool.submit(train.batch, rows) for rows in batches[:_PREFETCH])
            for index in range(len(batches)):
                images = pending.popleft().result()
                if index + _PREFETCH < len(batches):
                    pending.append(pool.submit(train.batch, batches[index + _PREFETCH]))
                yield images.to(self._device, non_blocking=True)


def spans(count: int, batch_size: int, *, least: int = 2) -> list[tuple[int, int]]:
    """
    Returns where each batch of an epoch starts and stops.

    A last batch of fewer than `least` images joins the batch before. Each process needs two images,
    because batch norm has no variance of one value.

    Example:
        10 in fours: (0, 4), (4, 8), (8, 10). 9 in fours: (0, 4), (4, 9).
    """
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] < least:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))
