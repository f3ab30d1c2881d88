"""
The errors of training and evaluation.

TrainError
├── BadHierarchy      (a graph is no tree over the labels)
├── BadCheckpoint     (weights are absent, damaged or of another shape)
├── MixedResults      (a run, or runs of one comparison, used other images or labels)
├── Diverged          (the loss is not finite)
├── OutOfMemory       (a batch does not fit the memory)
├── BadImage          (an image to predict cannot be read)
└── BadExport         (a run cannot be exported, or computes other probabilities than torch)

Errors that the packages share are in personae/errors.py.
"""

from personae.errors import PersonaeError


class TrainError(PersonaeError):
    """Base of every error that training raises; `exit_code` is the exit code of the command."""


class MixedResults(TrainError):
    """A run used other images or labels than the present shards, or than what it is compared with."""


class BadHierarchy(TrainError):
    """A graph is no tree over the labels, or the labels cannot be grouped."""


class BadCheckpoint(TrainError):
    """Weights are absent, damaged, or of another shape than the network."""


class BadImage(TrainError):
    """An image to predict cannot be read."""


class BadExport(TrainError):
    """A classifier cannot be exported, or the exported file computes other probabilities."""


class OutOfMemory(TrainError):
    """A batch does not fit the memory; the last finished epoch is kept."""


class Diverged(TrainError):
    """The loss is not finite; the last good checkpoint is kept."""

    def __init__(self, message: str, *, network: str, step: int, lr: float) -> None:
        """Keeps the network, the index of the update from 0, and its learning rate."""
        super().__init__(message)
        self.network = network
        self.step = step
        self.lr = lr
