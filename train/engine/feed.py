"""
Batches of one network's training set: which images, in which order, and how they reach the device.

The order of an epoch is a pure function of seed, network and epoch, and a process takes every
so-manieth image of it; so any position can be asked for, and training goes on where it stopped.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from train.data import augment
from train.data.augment import Draws
from train.engine.task import Task
from train.runtime import seeds

_AHEAD = 2  # batches that are fetched while the device computes


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process learns from in one update."""

    inputs: Float[Tensor, "image 3 height width"]
    targets: Int[Tensor, " picture"]
    weight: float
    """Weight of the whole batch, over all processes: what the sum of losses is divided by."""


@dataclass(frozen=True, slots=True)
class Order:
    """The images of every epoch, in order, for one of `ranks` processes."""

    task: Task
    seed: int
    batch_size: int
    """Images of one update, over all processes."""
    rank: int = 0
    ranks: int = 1

    def rows(self, epoch: int) -> Int[np.ndarray, " position"]:
        """Returns the rows of the whole epoch, the same on every process."""
        return self._drawn(epoch)[0]

    def ids(self, epoch: int, *, start: int = 0) -> Iterator[Int[np.ndarray, " picture"]]:
        """Yields the post ids of this process, batch by batch, from update `start` on."""
        rows = self.rows(epoch)
        for places in self.places(len(rows))[start:]:
            yield self.task.data.train.post_ids[rows[places]]

    def spans(self, count: int) -> list[tuple[int, int]]:
        """Returns where each batch of an epoch of `count` images starts and stops."""
        return spans(count, self.batch_size, least=2 * self.ranks)

    def places(self, count: int) -> list[Int[np.ndarray, " picture"]]:
        """Returns the positions of this process in each batch of an epoch of `count` images."""
        return [
            np.arange(start, stop)[self.rank :: self.ranks] for start, stop in self.spans(count)
        ]

    def draws(
        self, epoch: int, params: augment.Params
    ) -> tuple[Int[np.ndarray, " position"], Draws]:
        """Returns the rows of the epoch and what augmentation draws for each."""
        rows, rng = self._drawn(epoch)
        return rows, augment.draw(params, len(rows), rng, side=self.task.data.side)

    def _drawn(self, epoch: int) -> tuple[Int[np.ndarray, " position"], np.random.Generator]:
        fixed = seeds.seed(self.seed, self.task.name, "fixed")
        rng = seeds.seed(self.seed, self.task.name, "epoch", epoch)
        if self.rank:  # each process drops other units; the order is that of rank 0
            seeds.seed(self.seed, self.task.name, "epoch", epoch, "rank", self.rank)
        return self.task.sampler.draw(fixed=fixed, epoch=rng), rng


class Feed:
    """Fetches and augments the batches of an epoch, and measures how long the device waited."""

    def __init__(
        self,
        order: Order,
        *,
        moves: augment.Params,
        mean: Float[Tensor, "3"],
        weights: Float[Tensor, " output"] | None,
        device: torch.device,
    ) -> None:
        """Takes `weights` of the outputs, None where all count the same."""
        self._order, self._moves, self._mean = order, moves, mean
        self._weights, self._device = weights, device
        self.waited = 0.0
        """Seconds spent waiting for images."""
        self.augmented = 0.0
        """Seconds spent moving them; on a CPU part of the computing, elsewhere of its queueing."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yields the batches of an epoch, for this process."""
        task, device = self._order.task, self._device
        rows, draws = self._order.draws(number, self._moves)
        targets = torch.from_numpy(task.outputs[task.data.train.labels[rows]])
        places = self._order.places(len(rows))
        fetched = self._fetched([rows[own] for own in places])
        for own, (start, stop) in zip(places, self._order.spans(len(rows)), strict=True):
            asked = time.perf_counter()
            images = next(fetched)
            self.waited += time.perf_counter() - asked
            began = time.perf_counter()
            inputs = augment.apply(images, draws.at(own), params=self._moves, mean=self._mean)
            self.augmented += time.perf_counter() - began
            yield Batch(inputs, targets[own].to(device), self._weight(targets[start:stop]))

    def _weight(self, targets: Int[Tensor, " picture"]) -> float:
        if self._weights is None:
            return float(len(targets))
        return float(self._weights[targets.to(self._device)].sum())

    def _fetched(self, batches: list[np.ndarray]) -> Iterator[UInt8[Tensor, "image h w 3"]]:
        """Yields the images of each batch on the device, some fetched ahead where that pays."""
        pictures = self._order.task.data.train
        if not pictures.slow:
            for rows in batches:
                yield pictures.batch(rows).to(self._device, non_blocking=True)
            return
        with ThreadPoolExecutor(1) as pool:
            coming = deque(pool.submit(pictures.batch, rows) for rows in batches[:_AHEAD])
            for place in range(len(batches)):
                images = coming.popleft().result()
                if place + _AHEAD < len(batches):
                    coming.append(pool.submit(pictures.batch, batches[place + _AHEAD]))
                yield images.to(self._device, non_blocking=True)


def spans(count: int, batch_size: int, *, least: int = 2) -> list[tuple[int, int]]:
    """
    Returns where each batch of an epoch starts and stops.

    A last batch of fewer than `least` images joins the one before: each process needs two, for
    norms know no variance of one value.

    Example:
        10 in fours: (0, 4), (4, 8), (8, 10). 9 in fours: (0, 4), (4, 9).
    """
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] < least:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))
