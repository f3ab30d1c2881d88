"""The parameters of every section of params.yaml: type, default and meaning, from their models."""

import importlib
import importlib.util
import types
import typing
from collections.abc import Iterator
from typing import Any

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from generators.text import ROOT, table

_ELSEWHERE = {
    "demo": ("scraper.demo.facts.params", "Params"),
    "runs": ("train.runs", "Run"),
    "compare": ("train.runs", "Compare"),
}
"""Sections whose model is not `PACKAGE.params.SECTION.Params`."""
_NAMES = {int: "integer", float: "number", str: "text", bool: "yes or no", dict: "mapping"}


def parameters() -> str:
    """Returns a table for each section, in the order of params.yaml."""
    sections = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return "\n\n".join(_section(name) for name in sections if name != "seeds")


def _section(name: str) -> str:
    model = _model(name)
    rows = [
        (f"`{field}`", _type(info), _default(info), (info.description or "").replace("|", "\\|"))
        for field, info in model.model_fields.items()
    ]
    body = table(("parameter", "type", "default", "meaning"), rows) if rows else "No parameters."
    return f"## {name}\n\n{body}"


def _model(name: str) -> type[BaseModel]:
    if name in _ELSEWHERE:
        module, attribute = _ELSEWHERE[name]
        model: type[BaseModel] = getattr(importlib.import_module(module), attribute)
        return model
    for package in ("scraper", "curation", "train"):
        if importlib.util.find_spec(f"{package}.params.{name}"):
            own: type[BaseModel] = importlib.import_module(f"{package}.params.{name}").Params
            return own
    raise LookupError(f"section '{name}' of params.yaml has no model: add it to _ELSEWHERE")


def _type(info: FieldInfo) -> str:
    limits = " ".join(_limits(info.metadata))
    return f"{_kind(info.annotation)} {limits}".rstrip().replace("|", "\\|")


def _kind(annotation: Any) -> str:
    """Returns a type in words, such as `list of text`."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in inside)
    if origin is typing.Annotated:
        return f"{_kind(inside[0])} {' '.join(_limits(_metadata(inside[1:])))}".rstrip()
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_kind(each) for each in inside if each is not type(None))
    if origin in (tuple, list):
        return f"list of {_kind(inside[0])}"
    return _NAMES.get(origin or annotation, "text")


def _metadata(inside: tuple[Any, ...]) -> list[Any]:
    """Returns the limits of an annotation; those of a `Field` stand in its metadata."""
    return [limit for each in inside for limit in getattr(each, "metadata", [each])]


def _limits(metadata: list[Any]) -> Iterator[str]:
    """Yields the limits of a value, such as `≥ 1`."""
    signs = {
        annotated_types.Ge: ("ge", "≥"),
        annotated_types.Gt: ("gt", ">"),
        annotated_types.Le: ("le", "≤"),
        annotated_types.Lt: ("lt", "<"),
    }
    for limit in metadata:
        if type(limit) in signs:
            attribute, sign = signs[type(limit)]
            yield f"{sign} {getattr(limit, attribute):g}"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | set | frozenset | dict):
        return f"`{', '.join(map(str, value))}`" if value else "none"
    return f"`{value}`" if value != "" else "none"
