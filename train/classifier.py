"""
The one interface of all methods, and the records of what they cost (methods.md 0.3, 0.4, 7.2).

A method turns images into probabilities over the leaves, in the data set's label order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import networkx as nx
from jaxtyping import Float, Shaped
from torch import Tensor

Mode = Literal["default", "route", "full"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits on the training of one network; the first one reached stops it."""

    max_epochs: int
    """Passes over the network's training set."""
    max_seconds: float | None = None
    """Wall-clock seconds. A limit in seconds makes results depend on the machine."""
    max_train_flops: float | None = None
    """Floating-point operations: 6 per MAC and image, 2 where there is no backward pass."""


@dataclass(frozen=True, slots=True)
class NetworkReport:
    """What the training of one network took."""

    network: str
    """Node of the hierarchy at which it decides."""
    seconds: float
    """Wall-clock time of its training, validation included."""
    waiting_seconds: float
    """Part of `seconds` spent fetching images before they reach the device."""
    epochs: int
    """Epochs run."""
    discarded_epochs: int
    """Epochs after the one whose weights were kept."""
    images_seen: int
    """Training images over all epochs, repeats included."""
    pictures: int
    """Training images that it may draw from."""
    train_flops: float
    """Estimated: 6 per trained MAC and image, 2 per frozen one."""
    params: int
    """Trainable parameters."""
    stopped_by: str
    """The limit reached first: epochs, early_stop, seconds or flops."""
    peak_memory_mib: float = 0.0
    """Most memory in use: of the accelerator while it trained, or of this process until then."""
    waits_for: str | None = None
    """The network that must be finished before this one can start."""


_TOLD = "given"  # the grouping that no network finds; its random control ends in it


@dataclass(frozen=True, slots=True)
class FitReport:
    """What the training of one classifier took, network by network."""

    networks: tuple[NetworkReport, ...]
    """In the order of training."""
    from_flat: bool = True
    """Whether a method with a tree starts from the flat network."""

    @property
    def total_seconds(self) -> float:
        """Sum over all networks."""
        return sum(network.seconds for network in self.networks)

    @property
    def critical_path_seconds(self) -> float:
        """
        Longest chain of networks that wait for one another, each as fast as it was here.

        Example:
            A root of 3,900 s with subnetworks of 720, 600, 500, 400, 320 and 180 s: 4,620 s of
            a total of 6,620 s (methods.md 2.7).
        """
        ends: dict[str | None, float] = {None: 0.0}
        for network in self.networks:
            ends[network.network] = ends[network.waits_for] + network.seconds
        return max(ends.values())

    def needs_flat(self, grouping: str | None) -> bool:
        """Says whether the flat network was its start, or found the clusters of its grouping."""
        return grouping is not None and (self.from_flat or not grouping.endswith(_TOLD))


@dataclass(frozen=True, slots=True)
class Cost:
    """What a prediction costs; shared parts are counted once (methods.md 0.4)."""

    params: int
    """Distinct parameters."""
    macs: Mapping[str, int]
    """Multiply-accumulates per image of each part: the root with everything shared, then what
    each further network adds."""

    @property
    def macs_max(self) -> int:
        """MACs per image when every part is executed."""
        return sum(self.macs.values())

    def macs_expected(self, shares: Mapping[str, float]) -> float:
        """
        Returns E[MAC], the MACs weighted by the share of images that execute each part.

        Example:
            MACs 100, 40 and 60 with shares 1, 0.7 and 0.2: 140 of at most 200 (methods.md 0.4).
        """
        return sum(macs * shares[part] for part, macs in self.macs.items())


@runtime_checkable
class HierarchicalClassifier(Protocol):
    """What the rest of the program knows about a method."""

    hierarchy: nx.DiGraph

    def fit(
        self, data: Any, trainer: Any, *, seed: int, start: Mapping[str, Tensor] | None = None
    ) -> FitReport:
        """Trains every network; `start` holds the tensors of the flat network, where there is one."""
        ...

    def predict_proba(
        self, x: Float[Tensor, "batch channel height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """Returns rows that sum to one, from pixels in 0..1."""
        ...

    def coarse_proba(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch cluster"] | None:
        """Returns the root's probabilities over its clusters; None where there are none."""
        ...

    def outputs(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> dict[str, Shaped[Tensor, "batch output"]]:
        """
        Returns `default`, `executed` and, where they are defined, `full` and `coarse`, in one pass.

        `executed` (batch part, bool) tells for each part of `cost().macs`, in that order, whether
        the default mode executes it for the image; the first one, what all share, always is.
        """
        ...

    def cost(self) -> Cost:
        """Returns parameters and MACs."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns every tensor that a prediction needs."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Takes what `state_dict` returned."""
        ...

    def to(self, device: Any) -> Any:
        """Moves its tensors to a device."""
        ...

    def eval(self) -> Any:
        """Switches to evaluation mode."""
        ...
