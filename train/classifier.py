"""
The interface of all methods, and the records of their costs (`docs/methods/evaluation.md`).

A classifier turns images into probabilities over the leaves, in the label order of the data set.
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
    """Limits on the training of one network; training stops at the first limit reached."""

    max_epochs: int
    """Passes over the network's training set."""
    max_seconds: float | None = None
    """Wall-clock seconds. A limit in seconds makes results depend on the machine."""
    max_train_flops: float | None = None
    """Floating-point operations: 6 per MAC and image, 2 where there is no backward pass."""


@dataclass(frozen=True, slots=True)
class NetworkReport:
    """The cost of training one network."""

    network: str
    """Name of the network: the node of the hierarchy whose children it predicts."""
    seconds: float
    """Wall-clock time of training, validation included."""
    waiting_seconds: float
    """Part of `seconds` in which the device waits for images."""
    epochs: int
    """Epochs trained."""
    discarded_epochs: int
    """Epochs after the epoch whose weights are kept."""
    images_seen: int
    """Training images over all epochs, repetitions included."""
    pictures: int
    """Training images that its sampler draws from."""
    train_flops: float
    """Floating-point operations, estimated: 6 per trained MAC and image, 2 per frozen MAC."""
    params: int
    """Trainable parameters."""
    stopped_by: str
    """The limit reached first: epochs, early_stop, seconds or flops."""
    peak_memory_mib: float = 0.0
    """Peak memory in MiB: of the accelerator during training, else of the process since its start."""
    waits_for: str | None = None
    """Name of the network whose training must end before this training starts."""


_GIVEN = ("given", "families")  # what the names of groupings end in that no network predicts


@dataclass(frozen=True, slots=True)
class FitReport:
    """The cost of training one classifier, network by network."""

    networks: tuple[NetworkReport, ...]
    """In the order of training."""
    from_flat: bool = True
    """Whether a method with a tree starts from the weights of the flat network."""

    @property
    def total_seconds(self) -> float:
        """Sum of the training times, in seconds."""
        return sum(network.seconds for network in self.networks)

    @property
    def critical_path_seconds(self) -> float:
        """
        Seconds of the longest chain of networks that wait for one another.

        That is the training time on as many machines as there are independent networks, each as
        fast as this machine.

        Example:
            A root of 3,900 s with subnetworks of 720, 600, 500, 400, 320 and 180 s: 4,620 s of
            a total of 6,620 s.
        """
        ends: dict[str | None, float] = {None: 0.0}
        for network in self.networks:
            ends[network.network] = ends[network.waits_for] + network.seconds
        return max(ends.values())

    def needs_flat(self, grouping: str | None) -> bool:
        """
        Returns whether the flat network's training belongs to the cost of this classifier.

        It does if the classifier starts from its weights, or if `grouping` is computed from its
        confusions. None is the grouping of a method without a tree.
        """
        return grouping is not None and (self.from_flat or not grouping.endswith(_GIVEN))


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a prediction; shared parts are counted once (`docs/methods/evaluation.md`)."""

    params: int
    """Number of distinct parameters."""
    macs: Mapping[str, int]
    """Multiply-accumulates (MACs) per image of each part, by name: first the root with all shared
    layers, then the layers that each further network adds. Only convolutions and dense layers
    count."""

    @property
    def macs_max(self) -> int:
        """MACs per image if every part is executed."""
        return sum(self.macs.values())

    def macs_expected(self, shares: Mapping[str, float]) -> float:
        r"""
        Returns $E[MAC] = \sum_v \pi_v MAC_v$, where $\pi_v$ is the share of images that execute v.

        Args:
            shares: $\pi_v$ in 0..1, for each part of `macs`.

        Example:
            MACs 100, 40 and 60 with shares 1, 0.7 and 0.2: 140 of at most 200.
        """
        return sum(macs * shares[part] for part, macs in self.macs.items())


@runtime_checkable
class HierarchicalClassifier(Protocol):
    """What every method offers to the rest of the program."""

    hierarchy: nx.DiGraph

    def fit(
        self, data: Any, trainer: Any, *, seed: int, start: Mapping[str, Tensor] | None = None
    ) -> FitReport:
        """
        Trains every network.

        Args:
            data: A `DataModule` with the training and validation images.
            trainer: The `Trainer` that trains one network at a time.
            seed: Determines every random number of the training.
            start: State dict of the flat network of the same seed; None if it was not trained.
        """
        ...

    def predict_proba(
        self, x: Float[Tensor, "batch channel height width"], *, mode: Mode = "default"
    ) -> Float[Tensor, "batch leaf"]:
        """
        Returns the leaf probabilities of images with pixels in 0..1; rows sum to one.

        Args:
            x: The images.
            mode: `route` executes the networks of one path through the tree, `full` those of every
                path. `default` is the mode in which the method is evaluated.
        """
        ...

    def coarse_proba(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch cluster"] | None:
        """Returns the root's probabilities of the clusters; None for a method without clusters."""
        ...

    def outputs(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> dict[str, Shaped[Tensor, "batch output"]]:
        """
        Returns `default`, `executed` and, for a tree, `full` and `coarse`, in one forward pass.

        `default` and `full` are the probabilities of these modes, `coarse` those of
        `coarse_proba`. `executed` (batch, part; bool) is true where the default mode executes a
        part for an image; parts are ordered as in `cost().macs`. The first part always is true.
        """
        ...

    def cost(self) -> Cost:
        """Returns the number of parameters and the MACs."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns every tensor that a prediction needs, by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Copies the tensors of a `state_dict` into the classifier."""
        ...

    def to(self, device: Any) -> Any:
        """Moves all tensors to a device."""
        ...

    def eval(self) -> Any:
        """Switches to evaluation mode."""
        ...
