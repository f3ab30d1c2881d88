"""Tests the import contracts: they hold, cover every module, and fail when broken."""

import ast
import copy
from collections import defaultdict
from pathlib import Path

import grimp
import pytest
from importlinter import configuration
from importlinter.application.use_cases import read_user_options
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.independence import IndependenceContract
from importlinter.contracts.layers import LayersContract

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("personae", "scraper", "curation", "train")
configuration.configure()
OPTIONS = read_user_options(str(ROOT / "pyproject.toml"))
CONTRACTS = OPTIONS.contracts_options
LAYERED = [contract for contract in CONTRACTS if contract["type"] == "layers"]
KINDS = {
    "layers": LayersContract,
    "independence": IndependenceContract,
    "forbidden": ForbiddenContract,
}
# Class names with the same meaning in every stage and in every method.
SHARED_NAMES = {"Params", "Classifier"}


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def _kept(contract, graph) -> bool:
    made = KINDS[contract["type"]](contract["name"], OPTIONS.session_options, contract)
    # A check removes the imports that the contract ignores from its graph.
    return made.check(copy.deepcopy(graph), verbose=False).kept


def _kept_with(contract, graph, importer: str, imported: str) -> bool:
    """Returns whether the contract is kept after `importer` imports `imported` too."""
    graph.add_import(importer=importer, imported=imported, line_number=1, line_contents="broken")
    try:
        return _kept(contract, graph)
    finally:
        graph.remove_import(importer=importer, imported=imported)


def _members(contract) -> list[list[str]]:
    """Returns the modules of each layer by their full names, the highest layer first."""
    containers = contract.get("containers", [""])
    return [
        [f"{container}.{tail.strip()}".lstrip(".") for tail in layer.split("|")]
        for container in containers
        for layer in contract["layers"]
    ]


def _independent(contract, graph) -> list[str]:
    """Returns the modules of an independence contract; `package.*` stands for those of a folder."""
    named = [name.removesuffix(".*") for name in contract["modules"]]
    groups = [
        sorted(graph.find_children(name)) if pattern.endswith(".*") else [name]
        for name, pattern in zip(named, contract["modules"], strict=True)
    ]
    return [module for group in groups for module in group]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract["name"])
def test_contract_holds(contract, graph):
    """The import graph keeps every contract."""
    assert _kept(contract, graph)


@pytest.mark.parametrize(
    "contract",
    [contract for contract in LAYERED if len(contract["layers"]) > 1],
    ids=lambda contract: contract["name"],
)
def test_import_that_runs_upwards_is_refused(contract, graph):
    """An import from the lowest layer to the highest breaks the contract."""
    layers = _members(contract)

    assert not _kept_with(contract, graph, layers[-1][0], layers[0][0])


@pytest.mark.parametrize(
    "contract",
    [contract for contract in LAYERED if any("|" in layer for layer in contract["layers"])],
    ids=lambda contract: contract["name"],
)
def test_siblings_of_a_layer_never_meet(contract, graph):
    """An import between two modules of one layer breaks the contract."""
    first, second = next(layer for layer in _members(contract) if len(layer) > 1)[:2]

    assert not _kept_with(contract, graph, first, second)


@pytest.mark.parametrize(
    "contract",
    [contract for contract in LAYERED if "containers" in contract],
    ids=lambda contract: contract["name"],
)
def test_new_module_needs_a_place(contract, graph):
    """A module that no layer names breaks the contract, because all contracts are exhaustive."""
    stray = f"{contract['containers'][0]}.stray"
    graph.add_module(stray)
    is_kept = _kept(contract, graph)
    graph.remove_module(stray)

    assert not is_kept


@pytest.mark.parametrize(
    "contract",
    [contract for contract in CONTRACTS if contract["type"] == "independence"],
    ids=lambda contract: contract["name"],
)
def test_import_between_independent_modules_is_refused(contract, graph):
    """An import between the first two modules, in either direction, breaks the contract."""
    first, second = _independent(contract, graph)[:2]

    assert not _kept_with(contract, graph, first, second)
    assert not _kept_with(contract, graph, second, first)


@pytest.mark.parametrize(
    "contract",
    [contract for contract in CONTRACTS if contract["type"] == "forbidden"],
    ids=lambda contract: contract["name"],
)
def test_forbidden_import_is_refused(contract, graph):
    """An import of each forbidden module by the first source breaks the contract."""
    for module in contract["forbidden_modules"]:
        assert not _kept_with(contract, graph, contract["source_modules"][0], module)


def test_circle_that_once_passed_is_refused(graph):
    """`import train.fit` in train/revision.py is a circular import and breaks one contract."""
    circle = ("train.revision", "train.fit")

    assert [c["name"] for c in CONTRACTS if not _kept_with(c, graph, *circle)] == [
        "Inside train imports go downwards"
    ]


def test_every_folder_has_a_contract(graph):
    """Each folder with more than one module has its own exhaustive layers, or independent modules."""
    containers = {name for contract in LAYERED for name in contract.get("containers", [])}
    independent = {
        module
        for contract in CONTRACTS
        if contract["type"] == "independence"
        for module in _independent(contract, graph)
    }
    folders = defaultdict(set)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.name != "__init__.py":
                folders[".".join(path.parent.relative_to(ROOT).parts)].add(path.stem)
    open_folders = {
        name
        for name, modules in folders.items()
        if len(modules) > 1 and name not in containers
        if not {f"{name}.{module}" for module in modules} <= independent
    }

    assert open_folders == set()


def test_no_class_name_stands_twice():
    """No two classes have the same name, except `Params` and `Classifier`."""
    places = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(path.relative_to(ROOT).as_posix())
    twice = {name: where for name, where in places.items() if len(where) > 1}

    assert {name: where for name, where in twice.items() if name not in SHARED_NAMES} == {}


def test_no_file_is_too_long():
    """No file is longer than 400 lines."""
    folders = (*PACKAGES, "tests", "benchmarks", "docs")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in paths
    }

    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_formatter_formats_everything():
    """No comment switches the formatter off."""
    folders = (*PACKAGES, "tests", "benchmarks", "docs")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    marks = [f"# fmt: {word}" for word in ("skip", "off")]

    assert [p.name for p in paths if any(mark in p.read_text() for mark in marks)] == []
