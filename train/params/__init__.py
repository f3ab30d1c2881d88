"""
The sections of params.yaml that hold options: one module for each, with its model `Params`.

A method is a module in train/methods with a section of the same name here. Nothing here imports
torch, so that `--help` answers at once.
"""

import importlib
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from personae.errors import BadParams
from personae.settings import modules_in, near_miss
from train.params.clustering import GROUPINGS

METHODS: Final = tuple(sorted(modules_in("train.methods") & modules_in("train.params")))
"""The names of the methods: the modules that both folders have."""


def model_of(section: str) -> type[BaseModel]:
    """Returns the model of a section."""
    model: type[BaseModel] = importlib.import_module(f"train.params.{section}").Params
    return model


def model_in(section: str, values: Mapping[str, Any]) -> type[BaseModel]:
    """Returns the model of a section with these values: a network may have its own parameters."""
    if section == "backbone":
        from train.params.backbone import model_of_network

        return model_of_network(values.get("name"))
    return model_of(section)


def known_method(method: str) -> str:
    """
    Returns the name of a method, which is also that of its section.

    Raises:
        BadParams: There is no such method.
    """
    if method not in METHODS:
        hint = near_miss(method, METHODS)
        if method in modules_in("train.methods"):
            hint = f" train/methods has it, but its section is missing: train/params/{method}.py."
        raise BadParams(
            f"'{method}' is no method.{hint} Known: {', '.join(METHODS)}. Correct `method` of the "
            "run in section 'runs' of params.yaml."
        )
    return method


def known_network(values: Mapping[str, Any]) -> None:
    """
    Checks the name of a network if `values`, those of section `backbone` or of a run, have one.

    Raises:
        BadParams: There is no such network.
    """
    from train.params.backbone import is_known, names

    name = values.get("name")
    if name is not None and not is_known(name):
        hint = near_miss(str(name), names())
        raise BadParams(
            f"'{name}' is no backbone.{hint} Known: {', '.join(names())}. Correct `name` in section "
            "'backbone', or in `backbone` of the run, in params.yaml."
        )


def known_grouping(grouping: str) -> str:
    """
    Returns the name of a grouping.

    Raises:
        BadParams: Stage `clustering` writes no such grouping.
    """
    if grouping not in GROUPINGS:
        hint = near_miss(grouping, GROUPINGS)
        raise BadParams(
            f"'{grouping}' is no grouping.{hint} Known: {', '.join(GROUPINGS)}. Correct `grouping` "
            "of the run in section 'runs' of params.yaml."
        )
    return grouping
