"""What one network learns: data, outputs, loss and the order of its epochs."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from train.data.images import DataModule
from train.data.sampling import Sampler
from train.engine import losses


@dataclass(frozen=True, slots=True)
class Task:
    """What one network learns."""

    name: str
    data: DataModule
    outputs: Int[np.ndarray, " leaf"]
    """Output of each leaf; -1 for a leaf that the network never sees."""
    sampler: Sampler
    macs_trained: int
    """MACs per image of the layers that learn, and of what lies above them."""
    macs_frozen: int = 0
    """MACs per image of the frozen layers below."""
    epochs: int | None = None
    """Passes over its training set; None: those of section `loop`."""
    lr_scale: float = 1.0
    """Factor on the learning rate."""
    slow: tuple[str, ...] = ()
    """Prefixes of parameters that learn at a tenth of the rate (methods.md 2.6)."""
    waits_for: str | None = None
    """Network that must be finished before."""
    loss: losses.Loss = losses.cross_entropy
    """What it learns by; validation judges the cross-entropy of its logits alone."""
    shows_targets: bool = False
    """The network is given the targets beside the images while it learns (teacher forcing)."""

    @property
    def flops_per_picture(self) -> float:
        """6 operations per trained MAC (forward and two backward products), 2 per frozen one."""
        return 6.0 * self.macs_trained + 2.0 * self.macs_frozen
