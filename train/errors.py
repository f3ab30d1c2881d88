"""
What can go wrong in training and evaluation.

TrainError
├── BadShard          (a shard is damaged or holds what it should not)
├── BadHierarchy      (not a tree over the labels)
├── BadCheckpoint     (weights of another shape, or no weights)
├── MixedResults     (runs of one comparison saw other images or labels)
├── Diverged          (the loss is no longer a number)
├── OutOfMemory       (a batch does not fit the memory)
├── BadImage        (an image to predict cannot be read)
├── BadExport         (an exported file is not what torch computes)
└── MissingPackage    (an optional package is not installed)

Errors that the packages share are in personae/errors.py.
"""

from personae.errors import PersonaeError


class TrainError(PersonaeError):
    """Everything that training raises on purpose; `exit_code` is what the command returns."""


class MixedResults(TrainError):
    """Results that one comparison needs were made from other images or labels."""


class BadShard(TrainError):
    """A shard is damaged, or holds what it should not."""


class BadHierarchy(TrainError):
    """A graph is no tree over the labels, or no grouping of the labels can be made."""


class BadCheckpoint(TrainError):
    """Weights are absent, damaged, or of another shape than the network asked for."""


class BadImage(TrainError):
    """An image to predict cannot be read."""


class BadExport(TrainError):
    """A classifier cannot be exported, or the exported file gives other probabilities."""


class MissingPackage(TrainError):
    """A package that only some commands need is not installed, or does not import."""


class OutOfMemory(TrainError):
    """A batch does not fit the memory; the last finished epoch is kept."""


class Diverged(TrainError):
    """The loss is no longer a number; the last good checkpoint is kept."""

    def __init__(self, message: str, *, network: str, step: int, lr: float) -> None:
        """Keeps where it happened: the network, the update (from 0) and its learning rate."""
        super().__init__(message)
        self.network = network
        self.step = step
        self.lr = lr
