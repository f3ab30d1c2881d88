"""
Images per second of training, compared with a DataLoader and torchvision's transforms.

Both programs have the same network, weights, optimiser, batch size, precision and memory layout. The
peer has its images decoded in memory; it is timed with no, one and two worker processes, and the
best of these counts.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name that all of torch's documentation uses
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.shared import pairs
from benchmarks.shared.result import Result
from train import backbone
from train.backbone import Network, vision
from train.data import augment, sampling
from train.data.images import DataModule, ImageSet, channel_mean
from train.engine import loop
from train.engine.task import Task
from train.engine.trainer import Trainer
from train.runtime import seeds

BAR, BAR_WAITING = 1.0, 0.03
CROPS = augment.Params(rotation=0, zoom=1, shift=0, pad=4, outside="black")
CASES = {
    "uppsala_cnn_128": ("uppsala_cnn", 128, 32, 12, augment.Params()),
    "uppsala_cnn_32": ("uppsala_cnn", 32, 128, 12, augment.Params()),
    "resnet20_32": ("resnet20", 32, 128, 40, CROPS),
}
"""Backbone, side in pixels, batch size, updates per timing, augmentation."""
LABELS, RUNS, WORKERS = 100, 5, (0, 1, 2)
PRECISION = "bfloat16"


class _Images(Dataset[tuple[torch.Tensor, int]]):
    """Decoded images in memory with torchvision's transforms, as in its CIFAR100."""

    def __init__(self, image_set: ImageSet, transform: Callable[[Image.Image], Any]) -> None:
        self.images, self.labels = np.array(image_set.images), image_set.labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[row])), int(self.labels[row])


def run() -> Result:
    """Returns the smallest ratio of the three cases, and the largest share of waiting time."""
    cases = {name: _case(*options) for name, options in CASES.items()}
    ratios = {name: statistics.median(case["ratios"]) for name, case in cases.items()}
    waiting = max(case["share_waiting"] for case in cases.values())
    worst = min(ratios, key=lambda name: ratios[name])
    return Result(
        value=ratios[worst],
        unit="times the peer's images per second, in the worst case",
        bar=f">= {BAR:g}; waiting <= {BAR_WAITING:.0%}",
        ok=ratios[worst] >= BAR and waiting <= BAR_WAITING,
        runs=cases[worst]["ratios"],
        peer="torch DataLoader and torchvision transforms, the best of 0, 1 and 2 workers",
        details={"cases": cases, "share_waiting": waiting, "precision": PRECISION},
    )


def _case(name: str, side: int, batch: int, updates: int, moves: augment.Params) -> dict[str, Any]:
    params = loop.Params(
        epochs=10**4, lr=0.01, ema=0, clip=0, weight_decay=5e-4, precision=PRECISION, device="cpu"
    )
    device = loop.prepare(params)
    image_set = _image_set(batch * updates, side)
    held = DataModule(
        tuple(map(str, range(LABELS))), side, "0" * 64, image_set, _image_set(LABELS, side)
    )
    mean = channel_mean(image_set.images)
    times: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(params, moves, batch, torch.from_numpy(mean), device, Path(folder))
        ours = _ours(trainer, _network(name, side), held, times)
        peers = [
            _theirs(
                _network(name, side), params, _images(image_set, side, mean, moves), batch, count
            )
            for count in WORKERS
        ]
        for peer in peers:
            peer()  # starts its workers
        best = max(peers, key=lambda peer: statistics.median(pairs.rate(peer) for _ in range(2)))
        ratios, rates = pairs.compared(ours, best, runs=RUNS)
    seconds = times["seconds"]
    return {
        "ratios": ratios,
        "images_per_second": rates,
        "workers": WORKERS[peers.index(best)],
        "side": side,
        "batch_size": batch,
        "share_waiting": times["waiting"] / seconds,
        "share_augmenting": times["augmenting"] / seconds,
    }


def _network(name: str, side: int) -> Network:
    seeds.seed(0, name)
    return backbone.build(backbone.Params(name=name, init="he"), outputs=LABELS, side=side)


def _image_set(count: int, side: int) -> ImageSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = np.arange(count) % LABELS
    return ImageSet(images, labels, np.arange(count), np.zeros(count, dtype=bool))


def _ours(
    trainer: Trainer, network: Network, held: DataModule, times: dict[str, Any]
) -> Callable[[], int]:
    from train.engine.trainer import _Job

    sampler = sampling.by_class(held.train.labels, [[k] for k in range(LABELS)], balance="none")
    task = Task("root", held, np.arange(LABELS), sampler, macs_trained=1)
    job = _Job(trainer, network, task, seed=0)

    def once() -> int:
        # One epoch without validation and checkpoints, which the peer does not have.
        start = time.perf_counter()
        job._train()  # noqa: SLF001  # the peer trains without validation too
        job.state.epoch += 1
        times["seconds"] = times.get("seconds", 0.0) + time.perf_counter() - start
        times["waiting"] = job.state.waiting
        times["augmenting"] = times.get("augmenting", 0.0) + job.feed.augmented
        return len(held.train)

    return once


def _images(image_set: ImageSet, side: int, mean: np.ndarray, moves: augment.Params) -> _Images:
    vision.torchvision()
    from torchvision import transforms

    if moves.crops:
        move = [transforms.RandomCrop(side, padding=moves.pad)]
    else:
        shift = (moves.shift, moves.shift)
        move = [
            transforms.RandomAffine(
                moves.rotation,
                shift,
                (1.0, moves.zoom),
                interpolation=transforms.InterpolationMode.BILINEAR,
            )
        ]
    tail = [transforms.ToTensor(), transforms.Normalize(mean.tolist(), [1.0, 1.0, 1.0])]
    steps = [*move, transforms.RandomHorizontalFlip(), *tail]
    return _Images(image_set, transforms.Compose(steps))


def _theirs(
    network: nn.Module, params: loop.Params, images: _Images, batch: int, workers: int
) -> Callable[[], int]:
    layout = torch.channels_last
    network = network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stubs
    optimiser = torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    loader = DataLoader(
        images,
        batch_size=batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )

    def once() -> int:
        network.train()
        for inputs, targets in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=params.precision == "bfloat16"):
                logits = network(inputs.contiguous(memory_format=layout))
            loss = F.cross_entropy(logits.float(), targets, label_smoothing=params.label_smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        return len(images)

    return once
