"""
What a prediction takes here and now: milliseconds, images a second, memory (methods.md 7.2).

Operations are counted by the methods (`Cost`). Time and memory are measured, so they differ from
machine to machine and from run to run, and stand apart from the figures that do not.
"""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from train.classifier import HierarchicalClassifier
from train.data import augment
from train.data.images import ImageSet
from train.runtime import memory

_PICTURES = 256  # different images in turn, so that a router sends single ones everywhere


@dataclass(frozen=True, slots=True)
class Latency:
    """How long calls of `predict_proba` took, all with the same number of images."""

    batch: int
    """Images per call."""
    warm_up: int
    """Calls before the timed ones."""
    calls: int
    """Calls that were timed."""
    median_ms: float
    """Milliseconds per call."""
    p95_ms: float
    """Milliseconds per call that 95 % of the calls stay below."""
    pictures_per_second: float
    """Over all timed calls."""


@torch.no_grad()
def measure(
    classifier: HierarchicalClassifier,
    inputs: Sequence[Float[Tensor, "batch 3 height width"]],
    *,
    warm_up: int,
    calls: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Latency:
    """
    Times `predict_proba` in its default mode, from and to the device, the inputs in turn.

    Up to `warm_up` calls come first and then up to `calls` timed ones. No call starts when
    `seconds` are over, a fifth of which the warm-up may take; one timed call is always made.
    """
    device = inputs[0].device
    began = clock()
    warmed = 0
    while warmed < warm_up and clock() - began < seconds / 5:
        classifier.predict_proba(inputs[warmed % len(inputs)])
        _wait(device)
        warmed += 1
    took: list[float] = []
    while not took or (len(took) < calls and clock() - began < seconds):
        start = clock()
        classifier.predict_proba(inputs[len(took) % len(inputs)])
        _wait(device)
        took.append(clock() - start)
    return Latency(
        batch=len(inputs[0]),
        warm_up=warmed,
        calls=len(took),
        median_ms=1000 * float(np.median(took)),
        p95_ms=1000 * float(np.percentile(took, 95)),
        pictures_per_second=len(inputs[0]) * len(took) / sum(took),
    )


def inputs_of(
    pictures: ImageSet, *, batch: int, device: torch.device
) -> list[Float[Tensor, "batch 3 height width"]]:
    """Returns network input on the device, `batch` images each; few images are repeated."""
    starts = range(0, max(batch, min(_PICTURES, len(pictures))) - batch + 1, batch)
    rows = [np.arange(start, start + batch) % len(pictures) for start in starts]
    return [augment.scale(pictures.batch(some).to(device)) for some in rows]


def params_resident(classifier: HierarchicalClassifier) -> int:
    """
    Counts the numbers that lie in memory for a prediction, a shared tensor once.

    Beside `Cost.params` these are the statistics of normalisation, the mean colour, and every copy
    of a frozen layer that a method keeps.
    """
    tensors = [t for t in classifier.state_dict().values() if isinstance(t, Tensor)]
    return sum({t.data_ptr(): t.numel() for t in tensors if t.is_floating_point()}.values())


def reset_peak_memory(device: torch.device) -> None:
    """Starts the accelerator's peak anew; a process's own cannot be."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, float | str]:
    """Returns `peak_memory_mib` and `peak_memory_of`, which says what was measured."""
    return {
        "peak_memory_mib": memory.peak_mib(device),
        "peak_memory_of": "tensors allocated on the device while timing"
        if device.type == "cuda"
        else "resident set of the whole process since it started",
    }


def machine(device: torch.device) -> dict[str, str | int]:
    """Returns what a time means nothing without: device, its name, precision, threads."""
    return {
        "device": device.type,
        "device_name": (
            torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        ),
        "precision": "float32",
        "threads": torch.get_num_threads(),
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
