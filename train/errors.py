"""
What can go wrong in training and evaluation.

TrainError
├── MissingInput      (a file of an earlier stage is absent)
├── MissingColumn     (a table lacks a column that the reader states)
├── BadShard          (a shard is damaged or holds what it should not)
├── BadHierarchy      (not a tree over the labels)
├── BadCheckpoint     (weights of another shape, or no weights)
├── MixedResults     (runs of one comparison saw other pictures or labels)
├── Diverged          (the loss is no longer a number)
└── BadParams
"""


class TrainError(Exception):
    """Everything that training raises on purpose; `exit_code` is what the command returns."""

    exit_code = 5


class BadParams(TrainError):
    """A parameter is unknown, ill-typed or out of range."""

    exit_code = 2


class MissingInput(TrainError):
    """A file that an earlier stage writes is absent or unreadable."""


class MissingColumn(TrainError):
    """A table lacks a column that its reader states."""


class MixedResults(TrainError):
    """Results that one comparison needs were made from other pictures or labels."""
