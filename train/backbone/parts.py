"""Typed access to the parts of a classifier; torch's containers are typed as any `Module`."""

from collections.abc import Iterable
from typing import TypeVar

from torch import nn

Part = TypeVar("Part", bound=nn.Module)


def parts_of(kind: type[Part], parts: Iterable[object]) -> list[Part]:
    """
    Returns the parts in their order.

    Raises:
        TypeError: A part is of another class.
    """
    return [_typed(kind, part) for part in parts]


def parts_by_name(kind: type[Part], parts: nn.ModuleDict) -> dict[str, Part]:
    """
    Returns the parts by name, in their order.

    Raises:
        TypeError: A part is of another class.
    """
    return {name: _typed(kind, part) for name, part in parts.items()}


def _typed(kind: type[Part], part: object) -> Part:
    if not isinstance(part, kind):
        raise TypeError(f"A part is a {type(part).__name__}, and must be a {kind.__name__}.")
    return part
