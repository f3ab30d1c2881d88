"""The command line: all commands on tiny shards, exit codes, messages, kill and resume."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from train.__main__ import main
from train.options import COMMANDS
from train.runtime import checkpoint

PARAMS = """
seeds: [0]
data: {batch_size: 16}
backbone: {widths: [8, 16, 16, 16, 16], dense: 32, batch_norm: true, init: he}
loop: {epochs: 2, threads: 1, device: cpu}
clustering: {confusion: soft, bootstrap: 2}
evaluate: {latency_seconds: 0.1}
runs:
  tree: {method: uppsala, grouping: modularity}
  grown: {method: hiernet, grouping: modularity}
  both:
    method: merged
    grouping: modularity
    params: {epochs: 1, alpha_coarse: 0, alpha_fine: 0}
    backbone: {dense: 16}
  other: {method: dhnn, grouping: modularity, backbone: {name: resnet20, width: 0.25, attention: se}}
  long: {method: flat, loop: {epochs: 3}}
  smooth: {method: recover, loop: {epochs: 1, label_smoothing: 0.3}}
"""


@pytest.fixture
def project(tiny_shards, tmp_path, monkeypatch):
    """Writes params.yaml and tiny shards to a working folder."""
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_whole_story_by_hand(project, capsys):
    """Every command except report runs in sequence with exit code 0."""
    for command in (
        ["flat", "--epochs", "3"],
        ["clustering"],
        ["fit", "tree"],
        ["evaluate", "flat"],
        ["evaluate", "tree"],
    ):
        assert main([*command, "--seed", "0"]) == 0, command
    Image.new("RGB", (20, 30), "red").save(project / "mine.png")
    capsys.readouterr()

    assert main(["predict", "tree", "mine.png"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert "mine.png" == line["image"]
    took = json.loads((project / "results" / "flat" / "0" / "fit.json").read_text())
    assert 3 == took["networks"][0]["epochs"]
    facts = json.loads((project / "results" / "flat" / "0" / "model.json").read_text())
    assert 3 == facts["params"]["loop"]["epochs"]
    assert main(["results", "--csv"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert ["run", "flat", "tree"] == [row.split(",")[0] for row in rows]
    assert main(["export", "tree", "--out", "tree.onnx"]) == 0
    assert "tree.onnx\n" == capsys.readouterr().out
    assert (project / "tree.onnx").stat().st_size > 10_000
    assert main(["export", "tree", "--out", "results"]) == 2
    assert "results is a folder: name a file in it with --out." in capsys.readouterr().err


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_opens_with_an_example(command, capsys):
    """An example stands before the options of each command, as in the other two programs."""
    with pytest.raises(SystemExit, match="0"):
        main([*filter(None, [command]), "--help"])
    shown = capsys.readouterr().out

    assert f"\n  python -m train {command or ''}" in shown.split("positional arguments:")[0]
    assert f"\n  python -m train {command or ''}" in shown.split("options:\n")[0]


def test_help_shows_the_values_in_force(project, capsys):
    """`fit RUN --help` shows the sections of the file, with the values of the run over them."""
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "other", "--help"])
    shown = " ".join(capsys.readouterr().out.split())

    assert "params.yaml: resnet20" in shown
    assert "section 'dhnn' of params.yaml" in shown


def test_option_of_several_sections_sets_each(project):
    """`--epochs` sets the loop's and the method's value, `--balance` that of the method."""
    assert main(["flat", "--epochs", "1"]) == 0
    assert main(["clustering"]) == 0
    assert main(["fit", "grown", "--epochs", "1", "--balance", "weights"]) == 0
    facts = json.loads((project / "results" / "grown" / "0" / "model.json").read_text())

    assert (1, 1) == (facts["params"]["loop"]["epochs"], facts["params"]["hiernet"]["epochs"])
    assert "weights" == facts["params"]["hiernet"]["balance"]


def test_run_has_values_of_its_own(project):
    """A run's own values override its method's section and the backbone; options override both."""
    assert main(["flat", "--epochs", "1"]) == 0
    assert main(["clustering"]) == 0
    assert main(["fit", "both", "--dropout", "0.25"]) == 0
    facts = json.loads((project / "results" / "both" / "0" / "model.json").read_text())

    assert (16, 0.25) == (
        facts["params"]["backbone"]["dense"],
        facts["params"]["backbone"]["dropout"],
    )
    assert (1, 0, 0) == tuple(
        facts["params"]["merged"][name] for name in ("epochs", "alpha_coarse", "alpha_fine")
    )
    # The run trains from scratch, but its clusters come from the flat network.
    assert json.loads((project / "results" / "both" / "0" / "fit.json").read_text())["needs_flat"]
    assert main(["fit", "both", "--dense", "24"]) == 0
    facts = json.loads((project / "results" / "both" / "0" / "model.json").read_text())
    assert 24 == facts["params"]["backbone"]["dense"]


def test_run_has_a_budget_of_its_own(project):
    """A run's own `loop` values override the section, and options override both."""
    for arguments, epochs in (([], 3), (["--epochs", "1"], 1)):
        assert main(["fit", "long", *arguments]) == 0
        fit = json.loads((project / "results" / "long" / "0" / "fit.json").read_text())
        assert [epochs] == [network["epochs"] for network in fit["networks"]]


def test_control_has_the_values_of_its_run(project):
    """A control trains with its run's own values of `loop`, so that only the tree differs."""
    assert main(["flat", "--epochs", "1"]) == 0
    assert main(["fit", "smooth"]) == 0
    assert main(["control", "smooth", "train_flops"]) == 0
    model = json.loads(
        (project / "results" / "smooth_train_flops" / "0" / "model.json").read_text()
    )

    assert 0.3 == model["params"]["loop"]["label_smoothing"]


def test_run_has_a_backbone_of_its_own(project):
    """A run with a backbone name takes no values from section `backbone`."""
    assert main(["flat", "--epochs", "1"]) == 0
    assert main(["clustering"]) == 0
    assert main(["fit", "other"]) == 0
    facts = json.loads((project / "results" / "other" / "0" / "model.json").read_text())["params"]

    assert ("resnet20", "se", False, None) == tuple(
        facts["backbone"][name] for name in ("name", "attention", "batch_norm", "init")
    )


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["fit", "xyz"], 2, "'xyz' is not a run. Section 'runs' of params.yaml has tree, "),
        (["fit", "smoth"], 2, "'smoth' is not a run. Did you mean 'smooth'? Section 'runs' of"),
        (["fit", "flat"], 2, "Train it with python -m train flat --seed 0."),
        (["evaluate", "flat"], 5, "stage 'flat' writes it"),
        (["clustering"], 5, "stage 'flat' writes it"),
        (["predict", "flat", "x.png"], 5, "stage 'flat' writes it"),
        (["export", "flat"], 5, "stage 'flat' writes it"),
        (["results"], 5, "There are no results: results holds no"),
        (["results", "demo"], 5, "There are no results: experiments/demo holds no"),
        (["record", "demo"], 5, "No metrics.json lies under results"),
        (["evaluate", "flat", "--latency-batches", "0"], 2, "--latency-batches is 0"),
        (["flat", "--lr", "-1"], 2, "--lr is -1.0"),
        (["flat", "--params", "none.yaml"], 2, "none.yaml does not exist"),
        (["flat", "--data", "nowhere"], 5, "stage 'shards' writes it"),
        (["flat", "--side", "32"], 5, "data.side is 32"),
        (["flat", "--lr", "1e30", "--ema", "0", "--clip", "0", "--warm-up", "0"], 5, "loop.lr"),
    ],
)
def test_errors_are_one_line(project, capsys, command, code, message):
    """Wrong names, values, files and rates give one line on stderr and their exit code."""
    assert code == main(command)
    shown = capsys.readouterr()
    errors = [line for line in shown.err.splitlines() if line.startswith("error: ")]

    assert 1 == len(errors)
    assert message in errors[0]
    assert "Traceback" not in shown.err
    assert not shown.out


@pytest.mark.parametrize("command", [[], ["fly"], ["flat", "--sed", "1"], ["flat", "--seed", "-1"]])
def test_wrong_usage_exits_with_two(command):
    """Unknown commands, unknown options and a negative seed are usage errors."""
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert 2 == caught.value.code


def test_value_that_is_no_choice_names_the_choices(capsys):
    """A device outside the choices is refused with the option and all choices."""
    with pytest.raises(SystemExit) as caught:
        main(["flat", "--device", "gpu"])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]

    assert 2 == caught.value.code
    assert 1 == len(errors)
    assert "argument --device: invalid choice: 'gpu'" in errors[0]
    assert "'auto', 'cpu', 'cuda'" in errors[0]


def test_misspelt_parameter_names_the_nearest(project, capsys):
    """`epoch` in section loop is refused, and the error suggests epochs."""
    (project / "params.yaml").write_text("loop: {epoch: 3}\n", encoding="utf-8")

    assert main(["flat"]) == 2
    assert "Did you mean 'epochs'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tree_v1.1", "a/b", "-x", ""])
def test_a_run_that_dvc_cannot_name_is_an_error_of_the_first_stage(project, capsys, name):
    """DVC reads a dot as the next level of a parameter: `flat` refuses such a run before it trains."""
    text = PARAMS.replace("  tree:", f"  '{name}':")
    (project / "params.yaml").write_text(text, encoding="utf-8")

    assert 2 == main(["flat"])
    assert f"'{name}' cannot be the name of a run" in capsys.readouterr().err
    assert not (project / "results").exists()


WRONG = [
    ("method: uppsala", "method: upsala", "'upsala' is no method. Did you mean 'uppsala'? Known: "),
    (
        "method: uppsala",
        "method: fusion",
        "section is missing: train/params/fusion.py. Known: dhnn,",
    ),
    ("name: resnet20", "name: resnett20", "Did you mean 'resnet20'? Known: uppsala_cnn, fast_cnn,"),
    ("dense: 32", "name: fastcnn", "'fastcnn' is no backbone. Did you mean 'fast_cnn'? Known: "),
    ("grouping: modularity", "grouping: families2", "Did you mean 'families'? Known: modularity"),
    ("loop:", "lop:", "'lop' is no section. Did you mean 'loop'? Known: augment, backbone, "),
    ("runs:", "compare: {fit: [treee]}\nruns:", "section 'runs': both, grown, long, other"),
    ("runs:", "compare: {like: [tree]}\nruns:", "which is none of compare.fit: nothing"),
]
"""A text of PARAMS, the wrong text in its place, and the message."""


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong[1])
@pytest.mark.parametrize("command", [["settings"], ["flat"], ["fit", "long"], ["report"]])
def test_unknown_name_is_an_error_of_every_command(project, capsys, command, wrong):
    """A wrong name in params.yaml stops each command before it works, and lists what is known."""
    old, new, message = wrong
    (project / "params.yaml").write_text(PARAMS.replace(old, new, 1), encoding="utf-8")

    assert 2 == main(command)
    assert message in capsys.readouterr().err
    assert not (project / "results").exists()


def test_settings_hold_what_a_run_is_trained_with(project, capsys):
    """A file for each run has its own values over those of the sections, and no other method's."""
    (project / "data" / "settings").mkdir(parents=True)
    (project / "data" / "settings" / "gone.json").write_text("{}", encoding="utf-8")
    assert 0 == main(["settings"])
    folder = project / "data" / "settings"
    both = json.loads((folder / "both.json").read_text())

    assert "data/settings\n" == capsys.readouterr().out
    assert {"flat", "tree", "grown", "both", "other", "long", "smooth"} == {
        path.stem for path in folder.iterdir()
    }
    assert ("merged", "modularity", 16, 1) == (
        both["method"],
        both["grouping"],
        both["params"]["backbone"]["dense"],
        both["params"]["merged"]["epochs"],
    )
    assert {"merged", "data", "augment", "backbone", "loop"} == set(both["params"])
    assert {"train/params/merged.py", "train/networks/uppsala_cnn.py"} < set(both["code"])
    other = json.loads((folder / "other.json").read_text())["code"]
    assert "train/networks/resnet.py" in other
    assert "train/networks/uppsala_cnn.py" not in other


def test_change_of_a_method_concerns_its_runs_alone(project):
    """Another `hiernet.epochs` changes the settings of the hiernet run, to the byte no other file."""

    def written():
        assert 0 == main(["settings"])
        return {p.stem: p.read_bytes() for p in (project / "data" / "settings").iterdir()}

    before = written()
    text = f"{PARAMS}hiernet: {{epochs: 7}}\nreport: {{samples: 3}}\nhdcnn: {{beta: 6}}\n"
    (project / "params.yaml").write_text(text, encoding="utf-8")
    after = written()

    assert ["grown"] == [name for name in before if before[name] != after[name]]


def test_every_known_grouping_is_one_that_the_stage_can_write():
    """The list that names are checked with is that of the rules, the controls and the families."""
    from train.grouping.controls import SIZED, SOURCES
    from train.grouping.rules import RULES
    from train.params.clustering import GROUPINGS

    assert {*RULES, *SOURCES, *SIZED, "given", "given_deep", "families"} == set(GROUPINGS)
    assert len(set(GROUPINGS)) == len(GROUPINGS)


def test_full_disk_is_said(project, capsys):
    """A folder that cannot be written gives a one-line error without a traceback."""
    if os.geteuid() == 0:
        (project / "work").symlink_to("/proc/none")  # root may write to any other folder
    else:
        (project / "work").mkdir(mode=0o500)
    code = main(["flat"])

    assert code == 3
    assert "could not be read or written" in capsys.readouterr().err


def test_killed_training_ends_with_the_same_weights(project):
    """SIGKILL after the first epochs and a second start give the weights of an unbroken run."""
    command = [sys.executable, "-m", "train", "flat", "--epochs", "40"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        found = list((project / "work").glob("train/*/root.safetensors"))
        if found and checkpoint.load(found[0])[1]["epoch"] >= 2:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    was_unfinished = not (project / "results").exists()
    assert main(command[3:]) == 0
    assert main([*command[3:], "--work", "other", "--results", "unbroken"]) == 0
    ends = [
        checkpoint.load(project / name / "flat" / "0" / "weights.safetensors")[0]
        for name in ("results", "unbroken")
    ]

    assert was_unfinished
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    curves = [
        np.loadtxt(
            project / name / "flat" / "0" / "curves.csv",
            delimiter=",",
            skiprows=1,
            usecols=(1, 2, 3, 4, 5, 6),
        )
        for name in ("results", "unbroken")
    ]
    assert (curves[0] == curves[1]).all()
