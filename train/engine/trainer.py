"""
Trains networks: epochs, mixed precision, early stopping, checkpoints, learning curves.

`Trainer.fit` takes a network and a `Task`. It writes a checkpoint after each epoch, and all random
numbers are a function of seed, network and epoch. So a training that is killed and started again
ends with the same weights.
"""

import logging
import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name that all of torch's documentation uses
from torch import Tensor, nn

from personae.engine import Engine
from personae.progress import Progress
from train.classifier import NetworkReport
from train.data import augment
from train.engine import loop, losses, parallel, schedule
from train.engine.curves import Events
from train.engine.feed import Batch, Feed, Order
from train.engine.task import Task
from train.errors import Diverged
from train.params.augment import Params as AugmentParams
from train.params.loop import Params as LoopParams
from train.runtime import checkpoint, distributed, memory

log = logging.getLogger(__name__)

_VALIDATION_BATCH = 512

Pair = tuple[nn.Module, Task]
"""A network and its task."""


@dataclass(slots=True)
class _State:
    """The state of a training beside its tensors."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    images: int = 0
    kept_epoch: int = 0
    peak_memory_mib: float = 0.0
    least_batch: int = 0
    """Fewest images of the last batch of an epoch; set by the order."""
    stopped_by: str | None = None
    plateau: schedule.Plateau = field(default_factory=schedule.Plateau)
    curves: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Trainer:
    """Trains the networks of one run, which share parameters, device and work folder."""

    params: LoopParams
    augment: AugmentParams
    batch_size: int
    """Images per update, over all processes."""
    mean: Tensor
    """Mean of each channel of the training images, on the device."""
    device: torch.device
    work_dir: Path
    """Folder of this run's checkpoints; its name is a hash of all inputs."""
    curves: list[dict[str, Any]] = field(default_factory=list)
    """One row per network and epoch."""
    events_dir: Path | None = None
    """Folder of TensorBoard events; None: none are written."""
    clock: Callable[[], float] = time.perf_counter
    """Returns seconds since any start."""
    engine: Engine = "local"
    """What trains independent networks: processes of this machine, or tasks of a Ray cluster."""

    def fit(self, network: nn.Module, task: Task, *, seed: int) -> NetworkReport:
        """
        Trains `network` in place on `task`, resuming from the task's checkpoint; returns the
        training report.

        Raises:
            Diverged: The loss is not finite; the last good checkpoint is kept.
            OutOfMemory: A batch does not fit the memory; the last good checkpoint is kept.
        """
        with memory.translated_errors(task.name):
            job = _Job(self, network, task, seed)
            job.begin(self.work_dir / f"{task.name}.safetensors")
            title, total = task.name, job.budget.max_epochs
            # Processes that train at once cannot share a progress bar.
            plain = multiprocessing.parent_process() is not None
            watched = self.events_dir if distributed.rank() == 0 else None
            with (
                Progress(title, total, done=job.state.epoch, plain=plain) as progress,
                closing(Events(watched, task.name, epochs=job.state.epoch)) as events,
            ):
                while job.state.stopped_by is None:
                    job.run_epoch()
                    job.save()
                    events.add(job.state.curves[-1])
                    progress.advance(text=_line(job.state))
            report = job.finish()
        self.curves += job.state.curves
        log.info(
            "%s: %d epochs (%d discarded) of %d images in %.1f s, %.0f images/s, waiting "
            "%.1f %%, val accuracy %.4f, stopped by %s",
            task.name,
            report.epochs,
            report.discarded_epochs,
            task.sampler.epoch_images,
            report.seconds,
            report.images_seen / max(report.seconds, 1e-9),
            100 * report.waiting_seconds / max(report.seconds, 1e-9),
            job.state.curves[-1]["val_accuracy"],
            report.stopped_by,
        )
        return report

    def fit_all(self, pairs: Sequence[Pair], *, seed: int) -> list[NetworkReport]:
        """
        Trains independent networks, `loop.jobs` at a time; raises as `fit`.

        A separate process trains each network to its last checkpoint, which `fit` then loads. So
        only the time depends on the number of jobs, and on the engine.
        """
        works = [(self, network, task, seed) for network, task in pairs]
        jobs = self.params.jobs if self.params.jobs > 1 else None
        if self.engine == "ray" and len(works) > 1:
            parallel.run_on_cluster(works, jobs=jobs, shared_dir=self.work_dir)
        elif jobs and len(works) > 1:
            parallel.run(works, jobs=jobs)
        return [self.fit(network, task, seed=seed) for network, task in pairs]


class _Job:
    """The training of one network, between two checkpoints."""

    def __init__(self, trainer: Trainer, network: nn.Module, task: Task, seed: int) -> None:
        self.trainer, self.task = trainer, task
        self.params, self.recipe = trainer.params, loop.recipe_of(trainer.params)
        layout = torch.channels_last if self.params.channels_last else torch.contiguous_format
        self.network = network.to(trainer.device, memory_format=layout)  # type: ignore[call-overload]  # torch's stubs know no layout beside a device
        self.wrapped = distributed.data_parallel(self.network, trainer.device)
        self.optimiser = schedule.optimiser(self.recipe, self.network, slow=task.slow)
        self.state = _State()
        self.kept: checkpoint.Tensors = self._copy()
        self.val_rows = np.flatnonzero(task.outputs[task.data.val.labels] >= 0)
        weights = task.sampler.weights()
        self.weights = None if weights is None else torch.tensor(weights).float().to(trainer.device)
        ranks = distributed.rank(), distributed.world_size()
        self._follow(Order(task, seed, trainer.batch_size, *ranks))
        self.path = Path()

    def _follow(self, order: Order) -> None:
        """Plans the training by `order`, which decides the number of updates of an epoch."""
        task = self.task
        updates = len(order.spans(task.sampler.epoch_images))
        self.state.least_batch = order.smallest
        self.epochs = loop.passes(self.params, task.epochs, updates=updates)
        flops = task.sampler.epoch_images * task.flops_per_image
        self.budget = loop.budget(self.params, epochs=self.epochs, epoch_flops=flops)
        # Updates of the whole training.
        self.steps = updates * self.budget.max_epochs
        self.feed = Feed(
            order,
            augmentation=self.trainer.augment,
            mean=self.trainer.mean,
            weights=self.weights,
            device=self.trainer.device,
            clock=self.trainer.clock,
        )
        self.order = order

    def begin(self, path: Path) -> None:
        """Loads the checkpoint at `path`, or writes the first checkpoint there."""
        self.path = path
        if self.trainer.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.trainer.device)
        with distributed.rank_zero_first():
            (self._restore if path.exists() else self.save)()

    def run_epoch(self) -> None:
        """Trains one epoch, validates, selects the kept weights, and decides whether to stop."""
        began = self.trainer.clock()
        train_loss, rate = self._train()
        # Each process has batch statistics of its own part of the batches. Rank 0's are kept.
        distributed.broadcast(dict(self.network.named_buffers()).values())
        distributed.broadcast(self.kept[name] for name, _ in self.network.named_buffers())
        averaged = self.kept if self.recipe.ema else self.network.state_dict()
        val_loss, val_accuracy = self._validate(averaged, rate=rate)
        state = self.state
        state.epoch += 1
        state.seconds += self.trainer.clock() - began
        state.peak_memory_mib = max(state.peak_memory_mib, memory.peak_mib(self.trainer.device))
        if not self.recipe.stops_early:
            state.kept_epoch = state.epoch
        else:
            state.plateau = state.plateau.after(val_loss)
            if state.plateau.best_epoch == state.epoch:
                state.kept_epoch = state.epoch
                self.kept = self._copy()
        state.curves.append(
            {
                "network": self.task.name,
                "epoch": state.epoch,
                "step": state.step,
                "lr": rate,
                "train_loss": train_loss,
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
                "seconds": round(state.seconds, 3),
            }
        )
        state.stopped_by = self._stop()

    def finish(self) -> NetworkReport:
        """Loads the kept weights into the network, and returns the report of the training."""
        if self.recipe.stops_early or self.recipe.ema:
            checkpoint.fill(self.network, self.kept, source=str(self.path))
        self.network.eval()
        state, task = self.state, self.task
        return NetworkReport(
            network=task.name,
            seconds=state.seconds,
            waiting_seconds=state.waiting,
            epochs=state.epoch,
            discarded_epochs=state.epoch - state.kept_epoch,
            images_seen=state.images,
            pictures=task.sampler.images,
            train_flops=state.images * task.flops_per_image,
            params=sum(weight.numel() for _, weight in schedule.trained(self.network)),
            peak_memory_mib=state.peak_memory_mib,
            stopped_by=state.stopped_by or "",
            waits_for=task.waits_for,
        )

    def save(self) -> None:
        """Writes the checkpoint on rank 0."""
        if distributed.rank():
            return
        tensors = checkpoint.prefixed("network", self.network.state_dict())
        tensors |= checkpoint.prefixed("kept", self.kept)
        tensors |= checkpoint.prefixed("optimiser", checkpoint.optimiser_tensors(self.optimiser))
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        checkpoint.save(self.path, copies, asdict(self.state))

    def _restore(self) -> None:
        tensors, state = checkpoint.load(self.path)
        source = str(self.path)
        checkpoint.fill(self.network, checkpoint.under("network", tensors), source=source)
        for name, tensor in checkpoint.under("kept", tensors).items():
            self.kept[name].copy_(
                tensor
            )  # in place: the memory layout decides the last bits of a sum
        checkpoint.fill_optimiser(self.optimiser, checkpoint.under("optimiser", tensors))
        self.state = _State(**{**state, "plateau": schedule.Plateau(**state["plateau"])})
        self._follow(self.order.continuing(self.state.least_batch))
        if self.state.epoch:
            log.info("%s: resumes after epoch %d", self.task.name, self.state.epoch)

    def _train(self) -> tuple[float, float]:
        """Trains one epoch without synchronising the device; returns mean loss and last rate."""
        sums, sizes, rates = [], [], []
        self.network.train()
        self.feed.waited = self.feed.augmented = 0.0
        for batch in self.feed.epoch(self.state.epoch):
            rate = self._rate()
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group["scale"]
            sums.append(self._update(batch))
            sizes.append(batch.weight)
            rates.append(rate)
            self.state.step += 1
        self.state.waiting += self.feed.waited
        values = distributed.all_reduce(torch.stack(sums).double()).cpu()
        wrong = torch.nonzero(~torch.isfinite(values)).flatten().tolist()
        if wrong:
            # The update before it took the step that diverged.
            rate = rates[max(wrong[0] - 1, 0)]
            raise self._diverged(self.state.step - len(sums) + wrong[0], rate)
        self.state.images += self.task.sampler.epoch_images
        return float(values.sum() / sum(sizes)), rates[-1]

    def _update(self, batch: Batch) -> Tensor:
        """Applies one update, and returns the sum of this process's losses over its images."""
        self.optimiser.zero_grad(set_to_none=True)
        # Batch norm has no variance of one value, so that a part has two images.
        parts = max(1, min(self.params.accumulate, len(batch.inputs) // 2))
        divided = zip(
            batch.inputs.tensor_split(parts), batch.targets.tensor_split(parts), strict=True
        )
        partial_losses = []
        for number, (inputs, targets) in enumerate(divided, start=1):
            with self._gradient_sync(last=number == parts):
                partial_losses.append(self._backward(inputs, targets, batch.weight))
        if self.recipe.clip:
            weights = [weight for _, weight in schedule.trained(self.network)]
            nn.utils.clip_grad_norm_(weights, self.recipe.clip)
        self.optimiser.step()
        if self.recipe.ema:
            self._update_average()
        return torch.stack(partial_losses).sum()

    def _backward(self, inputs: Tensor, targets: Tensor, weight: float) -> Tensor:
        with self._autocast():
            arguments = (inputs, targets) if self.task.shows_targets else (inputs,)
            output = self.wrapped(*arguments)
        smoothing, share = self.recipe.label_smoothing, weight / distributed.world_size()
        counting = losses.Counting(self.weights, smoothing, share, self.state.step / self.steps)
        loss = self.task.loss(output, targets, counting)
        # DistributedDataParallel averages gradients over processes, and the loss is a sum over them.
        (loss * (distributed.world_size() / weight)).backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        return loss.detach()

    def _gradient_sync(self, *, last: bool) -> Any:
        """Returns a context in which gradients are exchanged only with the last part of a batch."""
        if last or not isinstance(self.wrapped, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self.wrapped.no_sync()

    @torch.no_grad()
    def _validate(self, tensors: checkpoint.Tensors, *, rate: float) -> tuple[float, float]:
        """Returns mean loss and accuracy on the validation images of the network's labels."""
        trainer, data, outputs = self.trainer, self.task.data, self.task.outputs
        self.network.eval()
        side = trainer.augment.network_side(data.side)
        sums = torch.zeros(2, dtype=torch.float64)
        own_rows = self.val_rows[distributed.rank() :: distributed.world_size()]
        for start in range(0, len(own_rows), _VALIDATION_BATCH):
            rows = own_rows[start : start + _VALIDATION_BATCH]
            targets = torch.from_numpy(outputs[data.val.labels[rows]]).to(trainer.device)
            inputs = augment.scale(data.val.batch(rows).to(trainer.device))
            centred = augment.middle(inputs - trainer.mean[:, None, None], side)
            with self._autocast():
                output = torch.func.functional_call(self.network, tensors, (centred,))
            logits = losses.logits_of(output)
            loss = F.cross_entropy(logits, targets, reduction="sum")
            correct = (logits.argmax(dim=1) == targets).sum()
            sums += torch.stack([loss, correct]).double().cpu()
        loss_sum, correct_sum = distributed.all_reduce(sums.to(trainer.device)).tolist()
        if not np.isfinite(loss_sum):
            raise self._diverged(self.state.step, rate)  # the rate of the last update
        return loss_sum / len(self.val_rows), correct_sum / len(self.val_rows)

    def _rate(self) -> float:
        factor = self.state.plateau.factor
        rate = self.recipe.rate(self.state.step, steps=self.steps, factor=factor)
        return rate * self.task.lr_scale

    def _update_average(self) -> None:
        # A small decay at first, so that the random initialisation has little weight.
        decay = min(self.recipe.ema, (1 + self.state.step) / (10 + self.state.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.kept[name].lerp_(value, 1 - decay)
            else:
                self.kept[name].copy_(value)

    def _stop(self) -> str | None:
        if self.recipe.stops_early and self.state.plateau.stopped:
            return "early_stop"
        if self.state.epoch >= self.budget.max_epochs:
            is_complete = self.budget.max_epochs == self.epochs
            return "epochs" if is_complete else "flops"
        seconds = distributed.broadcast_value(self.state.seconds, device=self.trainer.device)
        if self.budget.max_seconds is not None and seconds >= self.budget.max_seconds:
            return "seconds"
        return None

    def _diverged(self, step: int, rate: float) -> Diverged:
        return Diverged(
            f"The loss of network '{self.task.name}' is not finite at step {step} (epoch "
            f"{self.state.epoch + 1}, learning rate {rate:.4g}). The weights of epoch "
            f"{self.state.epoch} are kept in {self.trainer.work_dir}. Lower loop.lr, or train with "
            "loop.precision: float32.",
            network=self.task.name,
            step=step,
            lr=rate,
        )

    def _autocast(self) -> torch.autocast:
        enabled = self.params.precision == "bfloat16"
        return torch.autocast(self.trainer.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _copy(self) -> checkpoint.Tensors:
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}


def _line(state: _State) -> str:
    row = state.curves[-1]
    rate = state.images / max(state.seconds, 1e-9)
    return f"loss {row['train_loss']:.3f}, val {row['val_accuracy']:.1%}, {rate:.0f} images/s"
