"""
Trains one network: epochs, recipe, mixed precision, stopping, checkpoints, curves.

`Trainer.fit` is given a network and a `Task`. After each epoch everything lies in one file of the
work folder, and all randomness is a function of seed, network and epoch: killed anywhere and
started again, the same weights come out.
"""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name that all of torch's documentation uses
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from train.components import augment, checkpoint, memory, schedule, seeds
from train.components.classifier import Budget, NetworkReport
from train.components.progress import Progress
from train.components.sampling import Task
from train.errors import BadParams, Diverged

log = logging.getLogger(__name__)

_VALIDATION_BATCH = 512


class Params(BaseModel):
    """Section `loop`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Literal["report", "fast"] = Field(
        "fast",
        description="report: the report's recipe exactly, which needs tens of thousands of "
        "pictures; fast: one cycle of the rate, label smoothing, averaged weights",
    )
    epochs: int = Field(
        30, ge=1, le=10_000, description="passes over the training set; report: at most so many"
    )
    max_seconds: float | None = Field(
        None,
        gt=0,
        description="stop a network after so many seconds (results then depend on speed)",
    )
    max_train_flops: float | None = Field(
        None, gt=0, description="train a network for at most so many floating-point operations"
    )
    lr: float | None = Field(
        None, gt=0, description="learning rate at its highest; null: 1e-3 (report), 0.05 (fast sgd), "
        "3e-3 (fast adamw)",
    )  # fmt: skip
    momentum: float | None = Field(
        None, ge=0, lt=1, description="of SGD; null: 0.5 (report), 0.9 (fast)"
    )
    weight_decay: float | None = Field(
        None, ge=0, description="null: 4e-5 on all weights (report; 8e-5 if its source meant a "
        "penalty), 5e-4 on matrices (fast sgd), 0.05 (fast adamw)",
    )  # fmt: skip
    lr_decay: float = Field(1e-5, ge=0, description="per update, recipe report only; the report's")
    optimiser: Literal["sgd", "adamw"] = Field("sgd", description="recipe fast only")
    warm_up: float = Field(
        0.25, ge=0, le=1, description="share of the updates with rising rate, recipe fast only"
    )
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="share of the target spread over all outputs, recipe fast only"
    )
    ema: float = Field(
        0.98, ge=0, lt=1, description="decay per update of the averaged weights that are kept, 0: "
        "the last weights; recipe fast only",
    )  # fmt: skip
    clip: float = Field(
        1.0, ge=0, description="largest norm of the gradient, 0: any; recipe fast only"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of convolutions and products while training; loss in float32"
    )
    channels_last: bool = Field(True, description="memory layout; 1.4 to 1.8 times as fast on CPUs")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: an accelerator if there is one"
    )
    threads: int | None = Field(None, ge=1, le=1024, description="of the CPU; null: all cores")


@dataclass(slots=True)
class _State:
    """What a checkpoint knows beside its tensors."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    images: int = 0
    kept_epoch: int = 0
    stopped_by: str | None = None
    plateau: schedule.Plateau = field(default_factory=schedule.Plateau)
    curves: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Trainer:
    """Everything that the networks of one run share while they train."""

    params: Params
    augment: augment.Params
    batch_size: int
    mean: Tensor
    """Mean of each channel of the training pictures, on the device."""
    device: torch.device
    work_dir: Path
    """Folder of this run's checkpoints; its name is a hash of all inputs."""
    curves: list[dict[str, Any]] = field(default_factory=list)
    """One row per network and epoch."""

    def fit(self, network: nn.Module, task: Task, *, seed: int) -> NetworkReport:
        """
        Trains `network` in place, from its last checkpoint if there is one.

        Raises:
            Diverged: The loss is no longer a number; the last good checkpoint stays.
        """
        job = _Job(self, network, task, seed)
        path = self.work_dir / f"{task.name}.safetensors"
        (job.restore if path.exists() else job.save)(path)
        with Progress(task.name, total=job.budget.max_epochs, done=job.state.epoch) as progress:
            while job.state.stopped_by is None:
                job.run_epoch()
                job.save(path)
                row = job.state.curves[-1]
                progress.advance(
                    text=f"loss {row['train_loss']:.3f}, val {row['val_accuracy']:.1%}"
                )
        report = job.finish()
        self.curves += job.state.curves
        log.info(
            "%s: %d epochs (%d discarded) of %d pictures in %.1f s, %.0f pictures/s, waiting "
            "%.1f %%, val accuracy %.4f, stopped by %s",
            task.name, report.epochs, report.discarded_epochs, task.sampler.epoch_pictures,
            report.seconds, report.images_seen / max(report.seconds, 1e-9),
            100 * report.waiting_seconds / max(report.seconds, 1e-9),
            job.state.curves[-1]["val_accuracy"], report.stopped_by,
        )  # fmt: skip
        return report


class _Job:
    """The training of one network, between two checkpoints."""

    def __init__(self, trainer: Trainer, network: nn.Module, task: Task, seed: int) -> None:
        self.trainer, self.task, self.seed = trainer, task, seed
        self.params, self.recipe = trainer.params, recipe_of(trainer.params)
        layout = torch.channels_last if self.params.channels_last else torch.contiguous_format
        self.network = network.to(trainer.device, memory_format=layout)  # type: ignore[call-overload]  # torch's stubs know no layout beside a device
        self.optimiser = schedule.optimiser(self.recipe, self.network, slow=task.slow)
        self.state = _State()
        self.kept: checkpoint.Tensors = self._copy()
        self.budget = _budget(self.params, task)
        self.val_rows = np.flatnonzero(task.outputs[task.data.val.labels] >= 0)
        weights = task.sampler.weights()
        self.weights = None if weights is None else torch.tensor(weights).float().to(trainer.device)

    def run_epoch(self) -> None:
        """Trains one epoch, validates, and decides what is kept and whether to go on."""
        began = time.perf_counter()
        train_loss, rate = self._train()
        averaged = self.kept if self.recipe.ema else self.network.state_dict()
        val_loss, val_accuracy = self._validate(averaged)
        state = self.state
        state.epoch += 1
        state.seconds += time.perf_counter() - began
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
        """Puts the kept weights into the network and says what it took."""
        if self.recipe.stops_early or self.recipe.ema:
            self.network.load_state_dict(self.kept)
        self.network.eval()
        state, task = self.state, self.task
        return NetworkReport(
            network=task.name,
            seconds=state.seconds,
            waiting_seconds=state.waiting,
            epochs=state.epoch,
            discarded_epochs=state.epoch - state.kept_epoch,
            images_seen=state.images,
            pictures=task.sampler.pictures,
            train_flops=state.images * task.flops_per_picture,
            params=sum(weight.numel() for _, weight in schedule.trained(self.network)),
            stopped_by=state.stopped_by or "",
            waits_for=task.waits_for,
        )

    def save(self, path: Path) -> None:
        tensors = checkpoint.prefixed("network", self.network.state_dict())
        tensors |= checkpoint.prefixed("kept", self.kept)
        tensors |= checkpoint.prefixed("optimiser", checkpoint.optimiser_tensors(self.optimiser))
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        checkpoint.save(path, copies, asdict(self.state))

    def restore(self, path: Path) -> None:
        tensors, state = checkpoint.load(path)
        checkpoint.fill(self.network, checkpoint.under("network", tensors), source=str(path))
        for name, tensor in checkpoint.under("kept", tensors).items():
            self.kept[name].copy_(tensor)  # in place: the memory layout decides the last bits
        checkpoint.fill_optimiser(self.optimiser, checkpoint.under("optimiser", tensors))
        self.state = _State(**{**state, "plateau": schedule.Plateau(**state["plateau"])})
        log.info("%s: goes on after epoch %d", self.task.name, self.state.epoch)

    def _train(self) -> tuple[float, float]:
        """Returns the mean loss of one epoch and its last rate; nothing waits for the device."""
        losses, sizes, rates = [], [], []
        self.network.train()
        for inputs, targets in self._batches():
            rate = self._rate()
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group["scale"]
            loss = self._update(inputs, targets)
            losses.append(loss)
            sizes.append(len(targets))
            rates.append(rate)
            self.state.step += 1
        values = torch.stack(losses).double().cpu()
        wrong = torch.nonzero(~torch.isfinite(values)).flatten().tolist()
        if wrong:
            # The update before it is the one that went too far.
            rate = rates[max(wrong[0] - 1, 0)]
            raise self._diverged(self.state.step - len(losses) + wrong[0], rate)
        self.state.images += sum(sizes)
        mean = (values * torch.tensor(sizes)).sum() / sum(sizes)
        return float(mean), rates[-1]

    def _update(self, inputs: Tensor, targets: Tensor) -> Tensor:
        with self._autocast():
            logits = self.network(inputs)
        loss = F.cross_entropy(
            logits.float(), targets, weight=self.weights,
            label_smoothing=self.recipe.label_smoothing,
        )  # fmt: skip
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
        if self.recipe.clip:
            weights = [weight for _, weight in schedule.trained(self.network)]
            nn.utils.clip_grad_norm_(weights, self.recipe.clip)
        self.optimiser.step()
        if self.recipe.ema:
            self._average()
        return loss.detach()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        trainer, task = self.trainer, self.task
        fixed = seeds.seed(self.seed, task.name, "fixed")
        rng = seeds.seed(self.seed, task.name, "epoch", self.state.epoch)
        rows = task.sampler.draw(fixed=fixed, epoch=rng)
        draws = augment.draw(trainer.augment, len(rows), rng)
        targets = torch.from_numpy(task.outputs[task.data.train.labels[rows]]).to(trainer.device)
        for start in range(0, len(rows), trainer.batch_size):
            stop = min(start + trainer.batch_size, len(rows))
            asked = time.perf_counter()
            images = task.data.train.batch(rows[start:stop]).to(trainer.device, non_blocking=True)
            self.state.waiting += time.perf_counter() - asked
            inputs = augment.apply(
                images, draws.at(start, stop), params=trainer.augment, mean=trainer.mean
            )
            yield inputs, targets[start:stop]

    @torch.no_grad()
    def _validate(self, tensors: checkpoint.Tensors) -> tuple[float, float]:
        """Returns loss and accuracy on the validation pictures of the network's labels."""
        data, outputs = self.task.data, self.task.outputs
        self.network.eval()
        loss, right = 0.0, 0
        for start in range(0, len(self.val_rows), _VALIDATION_BATCH):
            rows = self.val_rows[start : start + _VALIDATION_BATCH]
            targets = torch.from_numpy(outputs[data.val.labels[rows]]).to(self.trainer.device)
            inputs = augment.scale(data.val.batch(rows).to(self.trainer.device))
            centred = inputs - self.trainer.mean[:, None, None]
            logits = torch.func.functional_call(self.network, tensors, (centred,)).float()
            loss += float(F.cross_entropy(logits, targets, reduction="sum"))
            right += int((logits.argmax(dim=1) == targets).sum())
        if not np.isfinite(loss):
            raise self._diverged(self.state.step, self._rate())
        return loss / len(self.val_rows), right / len(self.val_rows)

    def _rate(self) -> float:
        per_epoch = -(-self.task.sampler.epoch_pictures // self.trainer.batch_size)
        steps = per_epoch * self.budget.max_epochs
        rate = self.recipe.rate(self.state.step, steps=steps, factor=self.state.plateau.factor)
        return rate * self.task.lr_scale

    def _average(self) -> None:
        # A short memory at first, so that the random start is soon forgotten.
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
            return (
                "epochs" if self.budget.max_epochs == _epochs(self.params, self.task) else "flops"
            )
        if self.budget.max_seconds is not None and self.state.seconds >= self.budget.max_seconds:
            return "seconds"
        return None

    def _diverged(self, step: int, rate: float) -> Diverged:
        return Diverged(
            f"The loss of network '{self.task.name}' is no longer a number at step {step} (epoch "
            f"{self.state.epoch + 1}, learning rate {rate:.4g}). The weights of epoch "
            f"{self.state.epoch} are kept in {self.trainer.work_dir}. Lower loop.lr, or train with "
            "loop.precision: float32.",
            network=self.task.name, step=step, lr=rate,
        )  # fmt: skip

    def _autocast(self) -> torch.autocast:
        enabled = self.params.precision == "bfloat16"
        return torch.autocast(self.trainer.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _copy(self) -> checkpoint.Tensors:
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}


def prepare(params: Params) -> torch.device:
    """
    Sets threads and deterministic algorithms, and returns the device to train on.

    Raises:
        BadParams: An accelerator is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if params.device == "cuda" and not available:
        raise BadParams(
            "loop.device is cuda, and torch finds no accelerator here. Set it to auto or cpu."
        )
    memory.keep()
    torch.use_deterministic_algorithms(mode=True)
    # Filling fresh memory is a debugging aid; nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by a property of the module
    torch.set_num_threads(params.threads or os.cpu_count() or 1)
    return torch.device("cuda" if available and params.device != "cpu" else "cpu")


def recipe_of(params: Params) -> schedule.Recipe:
    """Returns the recipe that the section asks for, with the recipe's own value where it is null."""
    own = schedule.RECIPES[
        "report" if params.recipe == "report" else f"{params.recipe}_{params.optimiser}"
    ]
    given = {name: getattr(params, name) for name in ("lr", "momentum", "weight_decay")}
    own = replace(own, **{name: value for name, value in given.items() if value is not None})
    if own.name == "report":
        return replace(own, lr_decay=params.lr_decay)
    return replace(
        own,
        warm_up=params.warm_up,
        label_smoothing=params.label_smoothing,
        ema=params.ema,
        clip=params.clip,
    )


def _epochs(params: Params, task: Task) -> int:
    return params.epochs if task.epochs is None else task.epochs


def _budget(params: Params, task: Task) -> Budget:
    """Returns the limits; one in operations becomes one in epochs, so that a cycle can end in time."""
    budget = Budget(_epochs(params, task), params.max_seconds, params.max_train_flops)
    if budget.max_train_flops is None:
        return budget
    per_epoch = task.sampler.epoch_pictures * task.flops_per_picture
    affordable = max(1, int(budget.max_train_flops // per_epoch))
    return replace(budget, max_epochs=min(budget.max_epochs, affordable))
