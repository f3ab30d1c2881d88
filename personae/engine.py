"""
Engines: what computes the independent pieces of a command, this machine or a Ray cluster.

The engine changes no output and is no parameter of `params.yaml`: it is an option of the command, or
a variable of the environment for commands that `dvc repro` starts.
"""

import argparse
import os
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args

Engine: TypeAlias = Literal["local", "ray"]
"""local: processes of this machine; ray: tasks of a Ray cluster (extra `ray`)."""

VARIABLE: Final = "PERSONAE_ENGINE"
"""The environment variable whose value is the default of `--engine`."""


def add_option(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    *,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Gives `parser` the option `--engine`."""
    parser.add_argument(
        "--engine",
        type=_named,
        metavar="NAME",
        default=environment.get(VARIABLE) or "local",
        help=f"local, or ray: a Ray cluster (default: ${VARIABLE}, or local)",
    )


def _named(text: str) -> str:
    if text not in get_args(Engine):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no engine: write {' or '.join(get_args(Engine))}. ${VARIABLE} is its default"
        )
    return text
