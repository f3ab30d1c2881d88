"""Tests the errors of the packages: documented class trees and translated foreign errors."""

import importlib
import re

import pyarrow as pa
import pytest

from personae import tables
from personae.errors import MissingInput, PersonaeError

BASES = {
    "personae": "PersonaeError",
    "scraper": "ScraperError",
    "curation": "CurationError",
    "train": "TrainError",
}


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(below) for below in kind.__subclasses__()))


def drawn(text: str, base: str) -> dict[str, str]:
    """Returns the parent of each class in a drawn tree; four characters of indent are a level."""
    parents, path = {}, [base]
    for indent, name in re.findall(r"^((?:│   |    )*)[├└]── (\w+)", text, flags=re.MULTILINE):
        depth = len(indent) // 4 + 1
        path = [*path[:depth], name]
        parents[name] = path[depth - 1]
    return parents


@pytest.mark.parametrize("package", BASES)
def test_drawing_is_the_classes(package):
    """The tree in the docstring of `errors` has every class of the package below its parent."""
    module = importlib.import_module(f"{package}.errors")
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type)]
    own = {
        kind.__name__: kind.__base__.__name__
        for kind in kinds
        if issubclass(kind, PersonaeError) and kind.__module__ == module.__name__
    }
    own.pop(BASES[package])
    if package == "personae":
        own |= {base: "PersonaeError" for base in BASES.values() if base != "PersonaeError"}

    assert own == drawn(module.__doc__, BASES[package])


@pytest.mark.parametrize("package", BASES)
def test_every_error_stands_in_its_package_s_file(package):
    """Only the module `errors` of a package defines its error classes."""
    module = importlib.import_module(f"{package}.errors")
    base = getattr(module, BASES[package])
    elsewhere = {
        kind.__name__
        for kind in subclasses(base)
        if kind.__module__.startswith(f"{package}.") and kind.__module__ != module.__name__
    }

    assert elsewhere == set()


@pytest.mark.parametrize("kind", sorted(subclasses(pa.ArrowException), key=lambda k: k.__name__))
def test_every_error_of_arrow_is_missing_input(kind, tmp_path):
    """Every error class of pyarrow is translated to MissingInput."""
    with (
        pytest.raises(MissingInput, match="stage 'split'") as caught,
        tables.translated_errors(tmp_path / "t.parquet", stage="split"),
    ):
        raise kind("broken")
    assert isinstance(caught.value.__cause__, kind)
