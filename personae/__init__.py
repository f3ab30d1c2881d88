"""What the three packages share, and `Dataset`: a build of a data set in Python."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from personae.dataset import Dataset, Sample

__all__ = ["Dataset", "Sample"]


def __getattr__(name: str) -> Any:
    """Returns what `personae.dataset` has; imported when it is used, since commands need none of it."""
    if name not in __all__:
        raise AttributeError(f"module 'personae' has no attribute {name!r}")
    return getattr(importlib.import_module("personae.dataset"), name)
