"""
Parameters from `params.yaml` and the command line: one section, one model.

Precedence: command line, then `params.yaml`, then the field's default.
"""

import argparse
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from curation.errors import BadParams

ModelT = TypeVar("ModelT", bound=BaseModel)


def section(
    path: Path, name: str, model: type[ModelT], overrides: Mapping[str, Any] | None = None
) -> ModelT:
    """
    Returns section `name` of the YAML file at `path` as a validated `model`.

    An absent section means the defaults. `overrides` (from the command line) win; those that
    are None were not given.

    Raises:
        BadParams: The file is missing or no mapping, or a key is unknown or ill-typed; the
            message names the section, the key and the nearest known key.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise BadParams(
            f"{path} does not exist. Run in the project's folder, or name it with --params."
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadParams(
            f"{path} cannot be read as YAML: {error}. Fix it, or restore it from git."
        ) from error
    values = document.get(name) if isinstance(document, dict) else document
    if not isinstance(values, dict | None):
        raise BadParams(
            f"Section '{name}' of {path} must be a mapping of names to values, not {values!r}."
        )
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    try:
        return model(**{**(values or {}), **given})
    except ValidationError as error:
        raise BadParams(_explain(path, name, model, error)) from error


def add_options(parser: argparse.ArgumentParser, model: type[BaseModel]) -> None:
    """Gives `parser` one option per field of `model`: `min_images` becomes `--min-images`."""
    for name, field in model.model_fields.items():
        kind = _plain_type(field.annotation)
        shown = (
            f"{field.description or name} (default: {field.get_default(call_default_factory=True)})"
        )
        option = "--" + name.replace("_", "-")
        many: dict[str, Any] = {"nargs": "*"} if isinstance(kind, tuple) else {}
        convert = kind[0] if isinstance(kind, tuple) else kind
        if convert is bool:
            parser.add_argument(
                option, action=argparse.BooleanOptionalAction, help=shown.replace("%", "%%")
            )
        else:
            parser.add_argument(
                option,
                type=convert,
                metavar=convert.__name__.upper(),
                help=shown.replace("%", "%%"),
                **many,
            )


def overrides(options: argparse.Namespace, model: type[BaseModel]) -> dict[str, Any]:
    """The values that the command line gave for fields of `model`; None where it gave none."""
    return {name: getattr(options, name, None) for name in model.model_fields}


def _plain_type(annotation: Any) -> Any:
    """`int | None` is int, `list[str]` is (str,), a literal is str."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return _plain_type(next(kind for kind in inside if kind is not type(None)))
    if origin in (list, tuple, Sequence):
        return (_plain_type(inside[0]),)
    if origin is typing.Annotated:
        return _plain_type(inside[0])
    return annotation if annotation in (int, float, bool) else str


def _explain(path: Path, name: str, model: type[BaseModel], error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(section)"
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.4)
            hint = (
                f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(model.model_fields)}."
            )
            lines.append(f"'{name}.{key}' is not a parameter. {hint}")
        else:
            lines.append(f"'{name}.{key}' is {problem['input']!r}: {problem['msg']}.")
    return f"{path}: " + " ".join(lines)
