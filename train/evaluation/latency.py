"""
Measures the time and the memory that predictions take on this machine.

Times and memory differ between machines and runs, so they are stored apart from the figures that do
not. The methods count operations (`train.classifier.Cost`).
"""

import os
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

_IMAGES = 256  # different images, so that single images take every route of a hierarchy


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of calls of `predict_proba`, all with the same number of images."""

    batch: int
    """Images per call."""
    warm_up: int
    """Calls before the timed calls."""
    calls: int
    """Timed calls."""
    median_ms: float
    """Median of the times, in milliseconds."""
    p95_ms: float
    """95th percentile of the times, in milliseconds."""
    pictures_per_second: float
    """Images per second over all timed calls."""


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
    Times `predict_proba` in its default mode; inputs and probabilities stay on the device.

    Args:
        classifier: A classifier on the device of the inputs.
        inputs: Batches of equal size, which are used in turn.
        warm_up: Largest number of calls before the timed calls.
        calls: Largest number of timed calls; at least one is made.
        seconds: No call starts after this time; the warm-up may take a fifth of it.
        clock: Returns seconds; replaced in tests.
    """
    device = inputs[0].device
    start = clock()
    warmed = 0
    while warmed < warm_up and clock() - start < seconds / 5:
        classifier.predict_proba(inputs[warmed % len(inputs)])
        _wait(device)
        warmed += 1
    times: list[float] = []
    while not times or (len(times) < calls and clock() - start < seconds):
        before = clock()
        classifier.predict_proba(inputs[len(times) % len(inputs)])
        _wait(device)
        times.append(clock() - before)
    return Latency(
        batch=len(inputs[0]),
        warm_up=warmed,
        calls=len(times),
        median_ms=1000 * float(np.median(times)),
        p95_ms=1000 * float(np.percentile(times, 95)),
        pictures_per_second=len(inputs[0]) * len(times) / sum(times),
    )


def inputs_of(
    images: ImageSet, *, batch: int, device: torch.device
) -> list[Float[Tensor, "batch 3 height width"]]:
    """Returns batches of network input on the device; images repeat if there are fewer than `batch`."""
    starts = range(0, max(batch, min(_IMAGES, len(images))) - batch + 1, batch)
    rows = [np.arange(start, start + batch) % len(images) for start in starts]
    return [augment.scale(images.batch(indices).to(device)) for indices in rows]


def params_resident(classifier: HierarchicalClassifier) -> int:
    """
    Counts the floating-point numbers in memory for a prediction; a shared tensor counts once.

    These are `Cost.params`, the statistics of normalisation layers, the mean colour, and every copy
    of a frozen layer that a method keeps.

    Raises:
        TypeError: An entry of the classifier's state is no tensor.
    """
    state = classifier.state_dict()
    if others := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise TypeError(f"The entries {others} of the classifier's state are no tensors.")
    tensors = state.values()
    return sum({t.data_ptr(): t.numel() for t in tensors if t.is_floating_point()}.values())


def reset_peak_memory(device: torch.device) -> None:
    """Resets the peak memory of the accelerator; that of a process cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, float | str]:
    """Returns `peak_memory_mib`, in MiB, and `peak_memory_of`, a description of what was measured."""
    return {
        "peak_memory_mib": memory.peak_mib(device),
        "peak_memory_of": "tensors allocated on the device while timing"
        if device.type == "cuda"
        else "resident set of the whole process since it started",
    }


def machine(device: torch.device) -> dict[str, str | int]:
    """Returns what times depend on: device, its name, precision and number of threads."""
    return {
        "device": device.type,
        "device_name": (
            torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        ),
        "precision": "float32",
        "threads": torch.get_num_threads(),
    }


def load() -> float | None:
    """Returns the mean number of processes on or before a core in the last minute; None if unknown."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # no such figure on Windows
        return None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
