"""Tests that module, parameter section, stage and output folder have the same name."""

import functools
import hashlib
import importlib
import re
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from dvc.utils.serialize import parse_yaml

from personae.settings import modules_in
from personae.stages import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
PACKAGES = ("scraper", "curation", "train")
FIT_OUTPUTS = {"weights.safetensors", "model.json", "fit.json", "curves.csv", "validation.parquet"}

# DVC joins no lists: the controls that `evaluate` predicts with are a matrix of their own.
SAME_COMMAND = {"evaluate_control": "evaluate"}
# Modules that change no output, so that no stage depends on them.
PLUMBING = ("errors",)
# What section `runs` does to a training stands in data/settings/RUN.json.
SETTLED = {"flat": {"train/runs.py"}, "fit": {"train/runs.py"}}


def _package(stage: str) -> str:
    return re.match(r"python -m (\w+) ", PIPELINE[stage]["cmd"])[1]


def _module(stage: str) -> str:
    package, stage = _package(stage), SAME_COMMAND.get(stage, stage)
    return f"{package}.methods.{stage}" if stage == "flat" else f"{package}.{stage}"


@pytest.mark.parametrize("stage", [name for name in PIPELINE if name != "fit"])
def test_stage_is_a_module_with_params(stage):
    """Each stage has a module with its name, and the module has Params if there is a section."""
    module = importlib.import_module(_module(stage))

    if stage in PARAMS:
        assert "Params" in vars(module)


def test_messages_name_the_commands_of_the_pipeline():
    """The command that a message gives for a stage is that of dvc.yaml, in the same order."""
    commands = {
        stage: re.sub(r"\$\{item\.(\w+)\}", lambda found: found[1].upper(), entry["cmd"])
        for stage, entry in PIPELINE.items()
        if stage not in SAME_COMMAND
    }
    named = {stage: line.replace(" LIKE ", " RUN ") for stage, line in commands.items()}

    assert COMMANDS == {stage: line.split(" --seed")[0] for stage, line in named.items()}
    assert list(COMMANDS) == list(commands)


@pytest.mark.parametrize("stage", PIPELINE)
def test_command_names_the_stage(stage):
    """The command of a stage ends with the stage's name, before its options."""
    assert SAME_COMMAND.get(stage, stage) == PIPELINE[stage]["cmd"].split()[3]


@pytest.mark.parametrize("stage", PIPELINE)
def test_outputs_lie_in_the_folder_of_the_stage(stage):
    """The folder of each output has the name of the stage, or of the run in a matrix stage."""
    outputs = PIPELINE[stage]["outs"] + PIPELINE[stage].get("metrics", [])
    paths = [next(iter(out)) if isinstance(out, dict) else out for out in outputs]
    runs = {
        "fit": "${item.run}",
        "evaluate": "${item.run}",
        "control": "${item.like}_${item.equal}",
        "evaluate_control": "${item.like}_${item.equal}",
    }
    own = SAME_COMMAND.get(stage, stage)

    assert {path.split("/")[1] for path in paths} <= {own, runs.get(stage)}


def test_fitted_files_are_the_same_for_all():
    """All training stages write the same files, so that later stages need no distinction."""
    stages = ("flat", "fit", "control")
    written = [
        {out.split("/")[-1] for out in (*PIPELINE[stage]["outs"], *PIPELINE[stage]["plots"][0])}
        for stage in stages
    ]

    assert [FIT_OUTPUTS] * 3 == written


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda p: p.stem)
def test_runs_name_methods_and_are_compared(preset):
    """
    Each run uses a known method with valid parameters, and a preset trains what it compares.

    A preset of trials evaluates flat alone: its other runs must not see the test images.
    """
    methods = importlib.import_module("train.methods").METHODS
    params = importlib.import_module("train.params")
    loop = importlib.import_module("train.params.loop")
    runs = importlib.import_module("train.runs")
    sections = yaml.safe_load(preset.read_text())
    named = runs.Runs(**sections["runs"]).named()

    compared = runs.Compare(**sections["compare"]).compared(named)

    assert {run.method for run in named.values()} <= set(methods)
    for run in named.values():
        assert methods[run.method].Params(**{**sections.get(run.method, {}), **run.params})
        assert loop.Params(**{**sections["loop"], **run.loop})
        own = {} if "name" in run.backbone else sections["backbone"]
        network = {**own, **run.backbone}
        assert params.model_in("backbone", network)(**network)
    if sections["compare"]["evaluate"] != ["flat"]:
        assert set(sections["compare"]["fit"]) <= set(compared)
    trained = [name for name, run in compared.items() if run.like is None]
    assert ["flat", *trained] == sections["compare"]["evaluate"]


def test_every_section_is_read_by_a_stage():
    """Each section of params.yaml is read by a stage, and each stage reads existing sections."""
    read = {name.split(".")[0] for stage in PIPELINE.values() for name in stage.get("params", ())}
    trained = {
        "data",
        "augment",
        "backbone",
        "loop",
        *importlib.import_module("train.params").METHODS,
    }

    assert read <= set(PARAMS) <= read | trained
    assert "params.yaml" in PIPELINE["settings"]["deps"]  # it writes what a run is trained with


@pytest.mark.parametrize(
    ("stage", "name"), [("decide", "relabel"), ("filters", "exclude"), ("split", "keep")]
)
def test_edited_file_is_a_dependency(stage, name):
    """The stage that reads a file of a person runs again when the file changes; the file is there."""
    path = getattr(importlib.import_module(_module(stage)).Params(), name)

    assert path in PIPELINE[stage]["deps"]
    assert (ROOT / path).is_file()


@functools.cache
def _imports(module: str) -> set[str]:
    """Returns the files of a module and of all that it imports, without PLUMBING."""
    package = module.split(".", maxsplit=1)[0]
    needed = {module} | _graph(package).find_upstream_modules(module)
    files = {name.replace(".", "/") for name in needed if name != package}
    files = {f"{file}/__init__.py" if (ROOT / file).is_dir() else f"{file}.py" for file in files}
    return {file for file in files if Path(file).stem not in PLUMBING}


@functools.cache
def _graph(package: str) -> grimp.ImportGraph:
    return grimp.build_graph(package)


def _uncovered(files: set[str], stage: str) -> set[str]:
    """Returns the files that no dependency of a stage is or contains."""
    listed = [*PIPELINE[stage]["deps"], *SETTLED.get(stage, ())]
    return {f for f in files if not any(f == dep or f.startswith(f"{dep}/") for dep in listed)}


@pytest.mark.parametrize("stage", PIPELINE)
def test_code_dependencies_are_the_imports(stage):
    """The code dependencies of a stage are its module and its imports, without PLUMBING."""
    module = "train.fit" if stage == "flat" else _module(stage)

    assert set() == _uncovered(_imports(module), stage)


@pytest.mark.parametrize("stage", ["flat", "fit", "control", "evaluate", "evaluate_control"])
def test_code_of_methods_and_networks_is_a_dependency(stage):
    """What a run imports by name is a dependency of its stages, or stands in data/settings/RUN.json."""
    params = importlib.import_module("train.params")
    code_of = importlib.import_module("train.settings").code_of
    networks = modules_in("train.networks")
    methods = params.METHODS if stage in ("fit", "evaluate") else ("flat", "ensemble")
    # A control has the network of its run, not the method.
    is_control = stage in ("control", "evaluate_control")

    assert any(dep.startswith("data/settings/") for dep in PIPELINE[stage]["deps"])
    for method in methods if stage != "flat" else ("flat",):
        module = importlib.import_module("train.methods").METHODS[method].__name__
        own = set() if is_control else set(code_of(method, "none"))
        assert set() == _uncovered(_imports(module), stage) - own, method
    for network in networks:
        own = set(code_of("none", network))
        assert own
        assert set() == _uncovered(_imports(f"train.networks.{network}"), stage) - own, network


def test_code_of_a_run_is_its_own():
    """The hashes of a run are those of its method and its network, and of no other."""
    code_of = importlib.import_module("train.settings").code_of
    hdcnn, flat = code_of("hdcnn", "resnet"), code_of("flat", "resnet")

    assert {"train/params/hdcnn.py", "train/methods/hdcnn/mixture.py"} < set(hdcnn)
    assert {"train/methods/flat.py", "train/params/flat.py", "train/networks/resnet.py"} == set(
        flat
    )
    path = "train/networks/resnet.py"
    assert hashlib.sha256((ROOT / path).read_bytes()).hexdigest() == hdcnn[path] == flat[path]


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda p: p.stem)
def test_preset_has_the_sections_of_params(preset):
    """A preset has all sections of params.yaml, and a repeated section is refused as in DVC."""
    sections = parse_yaml(preset.read_text(), str(preset))

    assert set(PARAMS) == set(sections)
    assert set(PARAMS["compare"]) == set(sections["compare"]), "dvc.yaml reads these lists"


def test_demo_preset_is_the_default():
    """`make preset NAME=demo` restores the default."""
    assert (ROOT / "params.yaml").read_text() == (ROOT / "presets" / "demo.yaml").read_text()
