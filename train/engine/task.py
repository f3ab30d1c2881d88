"""A training task of one network: data, outputs, loss, and the order of its epochs."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from personae.sampling import Sampler
from train.data.images import DataModule
from train.engine import losses


@dataclass(frozen=True, slots=True)
class Task:
    """A training task of one network."""

    name: str
    data: DataModule
    outputs: Int[np.ndarray, " leaf"]
    """Output index of each leaf; -1 for a leaf whose images the network never sees."""
    sampler: Sampler
    macs_trained: int
    """Forward MACs per image of the trained layers and of all layers after them."""
    macs_frozen: int = 0
    """Forward MACs per image of the frozen layers before them."""
    epochs: int | None = None
    """Passes over the training set; None: `loop.epochs`."""
    lr_scale: float = 1.0
    """Factor for the learning rate."""
    slow: tuple[str, ...] = ()
    """Prefixes of parameters with a tenth of the learning rate (docs/methods/uppsala.md)."""
    waits_for: str | None = None
    """Network that must be trained before."""
    loss: losses.Loss = losses.cross_entropy
    """Training loss; validation uses the plain cross-entropy of the logits."""
    shows_targets: bool = False
    """Whether the network also takes the targets while it trains (teacher forcing)."""

    @property
    def flops_per_image(self) -> float:
        """Operations per image: 6 per trained MAC (forward, two backward products), 2 per frozen."""
        return 6.0 * self.macs_trained + 2.0 * self.macs_frozen
