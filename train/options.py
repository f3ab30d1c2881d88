"""
The parser of `python -m train`: the commands, their arguments and their options.

The options of a command are those of its sections in params.yaml. Only the called command gets them.
"""

import argparse
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from personae import cli
from personae.errors import PersonaeError
from personae.settings import Settings, add_options
from train import params
from train.runs import EQUALS, FLAT, Run, Runs

COMMANDS = {
    "settings": "write the effective parameters of each run and the hashes of its own code",
    "flat": "train one network over all labels, the baseline",
    "clustering": "group the labels by the flat network's confusions on validation images",
    "fit": "train a run of params.yaml: a method with a grouping",
    "control": "train a flat control with the same cost as a run",
    "extend": "add labels to a trained tree; only the root and the changed clusters are trained",
    "merge": "join two trained trees under a new root; only that root is trained",
    "evaluate": "predict the test images with a trained run",
    "noise": "list the samples whose label is doubtful, by networks that were not trained on them",
    "report": "compare all runs on one page",
    "predict": "predict the labels of your own images, files or folders",
    "serve": "open a page on this machine that predicts the image dropped on it",
    "results": "print a table of the evaluated runs, or of the recorded runs of a preset",
    "export": "write a trained run as one ONNX file, checked equal to torch, or its weights with a card",
    "record": "record the figures of the evaluated runs in experiments/",
}
_DESCRIPTION = """\
Flat and hierarchical classifiers over the shards, and their comparison.

examples:
  python -m train flat --seed 0 --epochs 5             one parameter changed
  python -m train fit uppsala_random --seed 1
  python -m train control uppsala macs --seed 1        as many MACs; writes results/uppsala_macs/1
  python -m train extend old/uppsala/0 grown           old/ is a results/ with fewer labels
  python -m train merge cats/uppsala/0 dogs/uppsala/0 pets
  python -m train predict uppsala image.png --seed 0
  python -m train serve uppsala                        drop an image on a page in the browser
  python -m train results                              the evaluated runs in results/
  python -m train results demo --csv                   the recorded runs of a preset
  python -m train noise --epochs 10                    samples whose label is doubtful
  python -m train evaluate flat --latency-seconds 300  all 200 timed calls, even on a slow CPU
  python -m train export uppsala --seed 0 --out uppsala.onnx
"""
_EPILOG = """\
The engine `ray` (fit, control, extend) trains the independent networks of a run on the Ray cluster at
$RAY_ADDRESS, or on one that it starts on this machine: see docs/howto/cluster.md.
`dvc repro` runs the stages whose inputs changed, for the runs of section `compare`. A training
that was stopped continues after its last finished epoch when the same command is run again.
"""
_EXAMPLES = {
    "settings": "example:\n  python -m train settings",
    "flat": "example:\n  python -m train flat --seed 0 --epochs 5",
    "clustering": "example:\n  python -m train clustering --seed 0",
    "fit": "example:\n  python -m train fit uppsala_random --seed 1",
    "control": "example:\n  python -m train control uppsala macs --seed 1",
    "evaluate": "example:\n  python -m train evaluate uppsala --seed 0",
    "noise": """\
The split needs folds (split.folds). A flat network is trained for each fold on all others and predicts
it: results/noise/noise.parquet, and relabel.csv for a person to edit. Finished folds are kept.

example:
  python -m train noise --epochs 10
  python -m train report                               its section "Label noise" shows them
""",
    "report": "example:\n  python -m train report",
    "predict": """\
One line for each image. The probability of a node of the path is the sum of its labels'. An image that
cannot be read has an error instead, and the command then ends with exit code 5.

examples:
  python -m train predict uppsala image.png --seed 0
  python -m train predict uppsala folder/ --csv > predictions.csv
  python -m train predict uppsala folder/ --parquet predictions.parquet --top 1
""",
    "serve": """\
The page is for this machine alone, until Ctrl-C. It shows labels, probabilities, the path through the
tree, and the training samples for which the run predicts the most similar probabilities, if data/shards
has them. An image is kept nowhere.

example:
  python -m train serve uppsala --seed 0               then open http://127.0.0.1:8424/
""",
    "results": "example:\n  python -m train results demo --csv",
    "extend": """\
data/shards holds the labels of the old tree and new labels. Each new label joins the cluster with the
largest mean probability of the old root on the label's images, or a new cluster if no probability is
above 0.5. No tensor of the other subnetworks changes.

example: a tree of 12 personae is extended by two personae
  mv results old                                       then set 14 personae in params.yaml
  dvc repro catalog                                    shards of all 14
  python -m train extend old/uppsala/0 grown
  python -m train evaluate grown
  python -m train predict grown image.png
""",
    "merge": """\
The two trees have no label in common; data/shards holds exactly the labels of both. Only the new root
is trained, from the weights of the first tree's root: it predicts the tree of an image.

example: a tree of cats and a tree of dogs, merged with shards of both
  python -m train merge cats/uppsala/0 dogs/uppsala/0 pets
  python -m train evaluate pets
  python -m train predict pets image.png
""",
    "export": "example:\n  python -m train export uppsala --seed 0 --out uppsala.onnx",
    "record": "example:\n  python -m train record demo",
}
_TRAINING = ("flat", "fit", "control", "extend", "merge")
_SETTLED = {
    "merge": frozenset({"subnetwork_epochs"}),
    "train_flops": frozenset({"epochs", "min_updates", "max_seconds", "max_train_flops"}),
    **dict.fromkeys(("macs", "params", "ensemble"), frozenset({"width"})),
}
"""Fields that a command, or a control of this equal cost, settles itself or does not read."""
WITH_ENGINE = ("fit", "control", "extend")
"""The commands that may train several networks which do not depend on each other."""
# One line for most options of a command, at 100 columns.
_HELP = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=34)
_WITH_SEED = (*_TRAINING, "noise", "clustering", "evaluate", "predict", "serve", "export")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the options of one command; exits with code 2 and a message on wrong usage."""
    parser = cli.Parser(
        prog="python -m train",
        description=_DESCRIPTION,
        epilog=cli.with_exit_codes(_EPILOG),
    )
    called = next((word for word in arguments if word in COMMANDS), None)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, line in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=line,
            description=f"{line[0].upper()}{line[1:]}.\n\n{_EXAMPLES[name]}",
            # An option that two sections have is shown once, and sets the field in both.
            conflict_handler="resolve",
            formatter_class=_HELP,
        )
        _add_arguments(command, name)
        if name in (*_TRAINING, "noise"):
            words = [action.metavar for action in command._actions if not action.option_strings]  # noqa: SLF001  # argparse offers no other list
            command.usage = " ".join(["%(prog)s", *map(str, words), "[options]"])
        if name == called:
            _add_sections(command, name, arguments)
        folders = ("data", "results", "work")
        cli.add_shared_options(
            command,
            *folders,
            *(["experiments"] if name in ("results", "record") else []),
            with_engine=name in WITH_ENGINE,
        )
    return parser.parse_args(arguments)


def _add_arguments(command: argparse.ArgumentParser, name: str) -> None:
    if name in ("extend", "merge"):
        command.add_argument(
            "trees",
            type=Path,
            nargs=1 + (name == "merge"),
            metavar="FOLDER",
            help="folder of a trained tree: results/RUN/SEED, or a copy of it",
        )
        command.add_argument("run", metavar="NEW_RUN", help="name of the new folder in results/")
    if name in ("fit", "control", "evaluate", "predict", "serve", "export"):
        shown = "name in section `runs`" if name in ("fit", "control") else "folder in results/"
        command.add_argument("run", metavar="RUN", help=shown)
    if name == "control":
        command.add_argument(
            "equal",
            choices=EQUALS,
            metavar="EQUAL",
            help="the cost that the control shares with RUN: train_flops, macs, params, or ensemble "
            "(several networks that have RUN's parameters together)",
        )
    if name in _WITH_SEED:
        command.add_argument(
            "--seed", type=cli.whole_number, default=0, help="random seed (default: 0)"
        )
    if name == "predict":
        command.add_argument(
            "images", type=Path, nargs="+", metavar="IMAGE", help="image files, or folders of them"
        )
        command.add_argument(
            "--top", type=_rank, default=5, metavar="N", help="labels for each image (default: 5)"
        )
        form = command.add_mutually_exclusive_group()
        form.add_argument("--csv", action="store_true", help="print CSV (default: JSON lines)")
        form.add_argument(
            "--parquet", type=Path, metavar="FILE", help="write a Parquet file instead"
        )
    if name == "serve":
        cli.add_port(command, of="page", default=8424)
    if name == "export":
        command.add_argument(
            "--form",
            choices=("onnx", "safetensors"),
            default="onnx",
            help="onnx: one file; safetensors: a folder of weights, description and model card "
            "(default: onnx)",
        )
        command.add_argument(
            "--out",
            type=Path,
            metavar="PATH",
            help="file or folder to write (default: RUN-SEED.onnx, or RUN-SEED)",
        )
    if name == "results":
        command.add_argument(
            "preset", nargs="?", metavar="PRESET", help="folder in experiments/ (default: results/)"
        )
        command.add_argument("--csv", action="store_true", help="print CSV; shares from 0 to 1")
    if name == "record":
        command.add_argument("preset", metavar="PRESET", help="folder in experiments/")
        command.add_argument(
            "--made-by",
            action="append",
            metavar="COMMAND",
            help="command that made the results; may be given again (default: dvc repro)",
        )


def _rank(text: str) -> int:
    if (number := cli.whole_number(text)) < 1:
        raise argparse.ArgumentTypeError("an image needs at least 1 label")
    return number


def _add_sections(command: argparse.ArgumentParser, name: str, arguments: Sequence[str]) -> None:
    """Adds the options of the called command's sections, that of the method among them."""
    file = Settings.named_in(arguments)
    values = file.values if file else lambda _section: {}
    if name in ("clustering", "report", "evaluate"):
        _add_group(command, name, values(name))
    if name == "evaluate":
        from train.params.data import Source

        group = command.add_argument_group("section 'data' of params.yaml")
        add_options(group, Source, values=values("data"))
    if name not in (*_TRAINING, "noise"):
        return
    run = _run(name, arguments, file)
    own = {"loop": run.loop, "data": run.data, "backbone": run.backbone} if run else {}
    own |= {run.method: run.params} if run else {}
    equal = next((word for word in reversed(arguments) if word in EQUALS), None)
    methods = [method for method in _methods(name, run, equal) if method in params.METHODS]
    skip = _SETTLED.get(str(equal) if name == "control" else name, frozenset())
    for section in (*methods, "loop", "data", "augment"):
        _add_group(command, section, {**values(section), **own.get(section, {})}, skip=skip)
    network = own.get("backbone", {})
    network = network if "name" in network else {**values("backbone"), **network}
    _add_group(command, "backbone", {**network, **_named_network(arguments)}, skip=skip)
    if name == "fit" and run is None:
        command.epilog = (
            "The options of RUN's method are shown when RUN is named:\n"
            "  python -m train fit uppsala --help"
        )


def _methods(name: str, run: Run | None, equal: str | None) -> Sequence[str]:
    """Returns the methods whose options the command takes; `equal` is the cost of a control."""
    if name in ("extend", "merge"):
        return ("uppsala",)
    if name in ("flat", "noise"):
        return (FLAT,)
    if name == "control":
        return {None: (FLAT, "ensemble"), "ensemble": ("ensemble",)}.get(equal, (FLAT,))
    return [run.method] if run else []


def _run(name: str, arguments: Sequence[str], file: Settings | None) -> Run | None:
    """Returns the run that `fit` trains; None for other commands, and where it is not known."""
    if name != "fit" or file is None:
        return None
    try:
        runs = file.section("runs", Runs).named()
    except PersonaeError:  # the command itself reports it
        return None
    return next((runs[word] for word in arguments if word in runs), None)


def _add_group(
    command: argparse.ArgumentParser,
    section: str,
    values: Mapping[str, Any],
    *,
    skip: frozenset[str] = frozenset(),
) -> None:
    group = command.add_argument_group(f"section '{section}' of params.yaml")
    add_options(group, params.model_in(section, values), values=values, skip=skip)


def _named_network(arguments: Sequence[str]) -> dict[str, str]:
    """Returns `name` if the command line gives it: a network may have options of its own."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--name", default=argparse.SUPPRESS)
    try:
        return vars(parser.parse_known_args(arguments)[0])
    except argparse.ArgumentError:  # the parser of the command reports it
        return {}
