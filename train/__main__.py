"""
python -m train flat --seed 0                  the network over all labels
python -m train clustering --seed 0            its validation confusions to clusters
python -m train fit RUN --seed 0               a run of params.yaml: a method with a grouping
python -m train control RUN EQUAL --seed 0     a flat network as costly as that run
python -m train extend FOLDER NEW_RUN          add the labels that a trained tree lacks
python -m train merge FOLDER FOLDER NEW_RUN    two trained trees under a new root
python -m train evaluate RUN --seed 0          test predictions and figures
python -m train report                         one page that compares the runs
python -m train predict RUN IMAGE…           labels, probabilities, the path through the tree
python -m train results                        every evaluated run in one table
python -m train export RUN --seed 0            one ONNX file, checked equal
python -m train record PRESET                  keep the figures in experiments/

Reads params.yaml, runs one command, and says what went wrong in one line.
"""

import argparse
import errno
import importlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from train.errors import BadParams, TrainError
from train.params import add_options, overrides, section
from train.runs import EQUALS, FLAT, Compare, Control, Run, Runs, check_new

log = logging.getLogger("train")

COMMANDS = {
    "flat": "train the network over all labels, the baseline",
    "clustering": "group the labels by the flat network's confusions on validation images",
    "fit": "train a run of params.yaml: a method with a grouping",
    "control": "train a network without a tree that costs what a run with one has cost",
    "extend": "add labels to a trained tree, training the root and the clusters they join",
    "merge": "put two trained trees under a new root, training that root alone",
    "evaluate": "predict the test images with a trained run",
    "report": "compare all runs on one page",
    "predict": "name the persona on images of yours",
    "results": "print every evaluated run, or the recorded runs of a preset, in one table",
    "export": "write a trained run as one ONNX file, checked equal to torch",
    "record": "keep the figures of the evaluated runs in experiments/",
}
_EPILOG = """\
examples:
  python -m train flat --seed 0 --epochs 5             one parameter changed
  python -m train fit uppsala_random --seed 1
  python -m train control uppsala macs --seed 1        as many MACs; writes results/uppsala_macs/1
  python -m train extend old/uppsala/0 grown           old/ is results/ of fewer labels
  python -m train merge cats/uppsala/0 dogs/uppsala/0 pets
  python -m train predict uppsala picture.png --seed 0
  python -m train results                              what was evaluated here
  python -m train results demo --csv                   the committed figures of a preset
  python -m train evaluate flat --latency-seconds 300  all 200 timed calls, even on a slow CPU
  python -m train export uppsala --seed 0 --out uppsala.onnx

`dvc repro` runs the stages whose inputs changed, for the runs of section `compare`. A run that was
stopped goes on after its last finished epoch when it is started again.

exit codes: 0 done, 2 wrong usage or parameter, 3 stopped but resumable, 5 bad data
"""
_METHODS_OF: dict[str, tuple[str, ...]] = {
    "flat": ("flat",),
    "control": ("flat", "ensemble"),
    "extend": ("uppsala",),
    "merge": ("uppsala",),
}
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EEXIST, errno.ENOTDIR}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(given).parse_args(given)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    # cuBLAS repeats its results only with this workspace, and reads it when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        _run(options)
    except TrainError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("Stopped. The same command goes on after the last finished epoch.", 3)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left
    except OSError as error:
        if error.errno not in _DISK:
            raise
        what = error.filename or "A file"
        return _fail(
            f"{what} could not be written: {error.strerror}. Free space or allow writing, and run "
            "the same command again.",
            5,
        )
    return 0


def _run(options: argparse.Namespace) -> None:
    folders = {"data_dir": options.data_dir, "results_dir": options.results_dir}
    _STEPS[options.command](options, folders)


def _clustering(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train import clustering

    params = _section(options, "clustering", clustering.Params)
    clustering.run(params, **folders, seed=options.seed)


def _evaluate(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train import evaluate
    from train.engine import loop

    evaluate.run(
        _section(options, "evaluate", evaluate.Params),
        loop_params=_section(options, "loop", loop.Params),
        name=options.run,
        seed=options.seed,
        work_dir=options.work_dir,
        **folders,
    )


def _report(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train import report

    params = _section(options, "report", report.Params)
    compared = section(options.params, "compare", Compare).compared(_runs(options))
    report.run(params, **folders, runs=compared, seeds=_seeds(options.params))


def _predict(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train import predict

    results_dir = folders["results_dir"]
    predict.run(options.run, options.pictures, seed=options.seed, results_dir=results_dir)


def _results(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train import results

    results.run(
        options.preset,
        results_dir=folders["results_dir"],
        as_csv=options.csv,
        out=sys.stdout,
        experiments_dir=options.experiments_dir,
    )


def _export(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train import export

    results_dir = folders["results_dir"]
    print(export.run(options.run, seed=options.seed, results_dir=results_dir, out=options.out))


def _record(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train import record

    written = record.run(
        options.preset,
        **folders,
        experiments_dir=options.experiments_dir,
        commands=options.made_by or ["dvc repro"],
    )
    for path in written:
        print(path)


def _flat(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    _train(options, folders, _settings(options, Run(method=FLAT)), name=FLAT)


def _fit(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    _train(options, folders, _settings(options, _known_run(options)), name=options.run)


def _control(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train import control

    _known_run(options)
    wanted = Control(like=options.run, equal=options.equal)
    settings, match = control.settle(
        _settings(options, Run(method=wanted.method)),
        wanted,
        seed=options.seed,
        results_dir=options.results_dir,
    )
    _train(options, folders, settings, name=wanted.name, match=control.document(match))


def _train(
    options: argparse.Namespace,
    folders: dict[str, Path],
    settings: Any,
    *,
    name: str,
    match: dict[str, Any] | None = None,
) -> None:
    from train import fit

    fit.run(
        settings, name=name, seed=options.seed, work_dir=options.work_dir, match=match, **folders
    )


def _grow(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train import extend, merge

    step: Callable[..., Path] = extend.run if options.command == "extend" else merge.run
    name = check_new(options.run, _runs(options))
    settings = _settings(options, Run(method="uppsala"))
    step(
        settings, *options.trees, name=name, seed=options.seed, work_dir=options.work_dir, **folders
    )


def _settings(options: argparse.Namespace, run: Run) -> Any:
    """Returns all parameters of a run; its own values win over the sections' of them."""
    from train import backbone, fit, saved
    from train.data import augment
    from train.data import pictures as data
    from train.engine import loop

    return fit.Settings(
        method=run.method,
        grouping=run.grouping,
        own=_section(options, run.method, saved.method_params(run.method), run.params),
        data=_section(options, "data", data.Params),
        augment=_section(options, "augment", augment.Params),
        # A backbone of the run's own takes nothing from the section, which is of another network.
        backbone=_section(
            options, "backbone", backbone.Params, run.backbone, alone="name" in run.backbone
        ),
        loop=_section(options, "loop", loop.Params),
    )


_STEPS: dict[str, Callable[[argparse.Namespace, dict[str, Path]], None]] = {
    "flat": _flat,
    "clustering": _clustering,
    "fit": _fit,
    "control": _control,
    "extend": _grow,
    "merge": _grow,
    "evaluate": _evaluate,
    "report": _report,
    "predict": _predict,
    "results": _results,
    "export": _export,
    "record": _record,
}


def _section(
    options: argparse.Namespace,
    name: str,
    model: type[BaseModel],
    own: Mapping[str, Any] | None = None,
    *,
    alone: bool = False,
) -> Any:
    """Returns a section; a run's own values win over the file, the command line over both."""
    asked = {key: value for key, value in overrides(options, model).items() if value is not None}
    return section(options.params, name, model, {**(own or {}), **asked}, alone=alone)


def _runs(options: argparse.Namespace) -> dict[str, Run]:
    return section(options.params, "runs", Runs).named()


def _known_run(options: argparse.Namespace) -> Run:
    runs = _runs(options)
    if options.run not in runs:
        raise BadParams(
            f"'{options.run}' is no run. Section 'runs' of {options.params} has "
            f"{', '.join(runs) or 'none'}."
        )
    return runs[options.run]


def _seeds(path: Path) -> list[int]:
    """Returns the list `seeds` of params.yaml, which is no section but a plain list."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return TypeAdapter(list[int]).validate_python(document["seeds"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValidationError) as error:
        raise BadParams(
            f"{path} must hold `seeds`, a list of whole numbers ({error!r})."
        ) from error


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; the options of a command are made from its models only when it is called."""
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description="Flat and hierarchical classifiers over the shards, and their comparison.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, line in COMMANDS.items():
        # An option of several sections is shown once, and sets it in each of them.
        command = commands.add_parser(
            name,
            help=line,
            description=line,
            allow_abbrev=False,
            conflict_handler="resolve",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_places(command)
        _add_arguments(command, name)
        if name == next((word for word in arguments if word in COMMANDS), None):
            _add_model_options(command, name)
    return parser


def _add_arguments(command: argparse.ArgumentParser, name: str) -> None:
    if name in ("extend", "merge"):
        command.add_argument(
            "trees",
            type=Path,
            nargs=1 + (name == "merge"),
            metavar="FOLDER",
            help="trained tree: results/RUN/SEED, wherever that lies now",
        )
        command.add_argument("run", metavar="NEW_RUN", help="new folder in results/")
    if name in ("fit", "control", "evaluate", "predict", "export"):
        shown = "name in section `runs`" if name in ("fit", "control") else "folder in results/"
        command.add_argument("run", metavar="RUN", help=shown)
    if name == "control":
        command.add_argument(
            "equal",
            choices=EQUALS,
            metavar="EQUAL",
            help="what it shares with RUN: train_flops, "
            "macs, params, or ensemble (several networks with its parameters)",
        )
    if name not in ("report", "results", "record"):
        command.add_argument("--seed", type=_seed, default=0, help="default: 0")
    if name == "predict":
        command.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE")
    if name == "export":
        command.add_argument(
            "--out", type=Path, metavar="FILE", help="file to write (default: RUN-SEED.onnx here)"
        )
    if name == "results":
        command.add_argument(
            "preset", nargs="?", metavar="PRESET", help="folder in experiments/; none: results/"
        )
        command.add_argument("--csv", action="store_true", help="plain CSV, shares from 0 to 1")
    if name == "record":
        command.add_argument("preset", metavar="PRESET", help="folder in experiments/")
        command.add_argument(
            "--made-by",
            action="append",
            metavar="COMMAND",
            help="command that made the results (default: dvc repro); may be given again",
        )
    if name in ("results", "record"):
        _add_folder(command, "experiments")


def _add_model_options(command: argparse.ArgumentParser, name: str) -> None:
    if name == "clustering":
        from train import clustering

        add_options(command, clustering.Params)
    elif name == "report":
        from train import report

        add_options(command, report.Params)
    elif name == "evaluate":
        from train import evaluate

        add_options(command, evaluate.Params)
    elif name in ("flat", "fit", "control", "extend", "merge"):
        from train import backbone
        from train.data import augment
        from train.data import pictures as data
        from train.engine import loop
        from train.methods import METHODS

        if _STEPS[name] is _grow:
            command.epilog = importlib.import_module(f"train.{name}").EXAMPLE
        methods = _METHODS_OF.get(name, METHODS)
        for method in sorted(methods):
            add_options(command, METHODS[method].Params)
        for model in (data.Params, augment.Params, backbone.Params, loop.Params):
            add_options(command, model)


def _add_places(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--params",
        type=Path,
        default=Path("params.yaml"),
        metavar="FILE",
        help="file of parameters (default: params.yaml); options win over it",
    )
    for name in ("data", "results", "work"):
        _add_folder(command, name)


def _add_folder(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument(
        f"--{name}",
        dest=f"{name}_dir",
        type=Path,
        default=Path(name),
        metavar="DIR",
        help=f"folder (default: {name})",
    )


def _seed(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
