"""
python -m train settings                       write the effective parameters of each run
python -m train flat --seed 0                  train one network over all labels
python -m train clustering --seed 0            group the labels by its validation confusions
python -m train fit RUN --seed 0               train a run of params.yaml
python -m train control RUN EQUAL --seed 0     train a flat control with the same cost as RUN
python -m train extend FOLDER NEW_RUN          add labels to a trained tree
python -m train merge FOLDER FOLDER NEW_RUN    join two trained trees under a new root
python -m train evaluate RUN --seed 0          predict the test images
python -m train noise                          list the samples whose label is doubtful
python -m train report                         compare the runs on one page
python -m train predict RUN IMAGE…             labels, probabilities and paths of images
python -m train results                        print a table of the evaluated runs
python -m train export RUN --seed 0            write one ONNX file, or the weights with a card
python -m train record PRESET                  record the figures in experiments/

Reads params.yaml, runs one command, and prints a failure as one line.
"""

if __name__ == "__main__":
    from personae import interrupt

    interrupt.at_once()  # before the imports, which take most of a second

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from personae import cli, interrupt
from personae.errors import BadParams
from personae.settings import Settings, check_params_file, near_miss, overrides
from train import params
from train.options import parse
from train.runs import FLAT, Compare, Control, Run, Runs, check_new


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # cuBLAS is deterministic only with this workspace, and reads the variable when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return cli.run(lambda: _run(given))


def _run(arguments: Sequence[str]) -> None:
    options = parse(arguments)
    cli.configure_logging(verbose=options.verbose)
    check_params_file(options.params)
    folders = {"data_dir": options.data_dir, "results_dir": options.results_dir}
    interrupt.gracefully(continues=options.command not in _ANEW)
    _STEPS[options.command](options, folders)


def _settings_of_runs(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train import settings

    runs = {FLAT: Run(method=FLAT)} | _runs(options)
    sections = {name: _sections(options, entry) for name, entry in runs.items()}
    print(settings.run(runs, sections, data_dir=folders["data_dir"]))


def _clustering(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    section = _section(options, "clustering")  # read first: a wrong value needs no heavy import
    from train import clustering

    clustering.run(section, **folders, seed=options.seed)


def _evaluate(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    section, loop_section = _section(options, "evaluate"), _section(options, "loop")
    source = _section(options, "data")
    from train import evaluate

    evaluate.run(
        section,
        loop_params=loop_section,
        name=options.run,
        seed=options.seed,
        work_dir=options.work_dir,
        source=source,
        **folders,
    )


def _noise(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    settings = _settings(options, Run(method=FLAT))
    from train import noise

    print(noise.run(settings, seed=options.seed, work_dir=options.work_dir, **folders))


def _report(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    settings, section = _file(options), _section(options, "report")
    compared = settings.section("compare", Compare).compared(_runs(options))
    from train import report

    report.run(
        section,
        **folders,
        runs=compared,
        seeds=settings.seeds(),
        project_dir=settings.path.parent,
    )


def _predict(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train import predict

    predict.run(
        options.run,
        options.images,
        seed=options.seed,
        results_dir=folders["results_dir"],
        top=options.top,
        form="csv" if options.csv else "json",
        parquet=options.parquet,
    )


def _serve(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train.serve import server

    server.run(
        options.run, seed=options.seed, port=options.port, work_dir=options.work_dir, **folders
    )


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
    from train import export, model_card

    results_dir = folders["results_dir"]
    write = {"onnx": export.run, "safetensors": model_card.run}[options.form]
    print(write(options.run, seed=options.seed, results_dir=results_dir, out=options.out))


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

    run = _known_run(options)
    target = Control(like=options.run, equal=options.equal)
    settings, match = control.settle(
        _settings(
            options,
            Run(method=target.method, backbone=run.backbone, loop=run.loop, data=run.data),
        ),
        target,
        seed=options.seed,
        results_dir=options.results_dir,
    )
    _train(options, folders, settings, name=target.name, match=match)


def _train(
    options: argparse.Namespace,
    folders: dict[str, Path],
    settings: Any,
    *,
    name: str,
    match: Any = None,
) -> None:
    from train import fit

    fit.run(
        settings, name=name, seed=options.seed, work_dir=options.work_dir, match=match, **folders
    )


def _extend_or_merge(options: argparse.Namespace, folders: dict[str, Path]) -> None:
    from train import extend, merge

    step: Callable[..., Path] = extend.run if options.command == "extend" else merge.run
    name = check_new(options.run, _runs(options))
    settings = _settings(options, Run(method="uppsala"))
    step(
        settings, *options.trees, name=name, seed=options.seed, work_dir=options.work_dir, **folders
    )


def _settings(options: argparse.Namespace, run: Run) -> Any:
    """Returns all parameters of a run; values of the run win over those of the sections."""
    from train import fit
    from train.runtime import distributed

    engine: Any = getattr(options, "engine", "local")  # where a command has the option
    if engine == "ray" and distributed.launched() > 1:
        raise BadParams(
            "Engine 'ray' starts from one process. Leave out --engine under torchrun, or torchrun."
        )
    sections = _sections(options, run)
    own = sections.pop(run.method)
    return fit.RunSettings(
        method=run.method, grouping=run.grouping, own=own, engine=engine, **sections
    )


def _sections(options: argparse.Namespace, run: Run) -> dict[str, Any]:
    """Returns the effective sections of a run by name."""
    return {
        params.known_method(run.method): _section(options, run.method, run.params),
        "data": _section(options, "data", run.data),
        "augment": _section(options, "augment"),
        # If the run names a backbone, section `backbone` describes another network: ignore it.
        "backbone": _section(options, "backbone", run.backbone, alone="name" in run.backbone),
        "loop": _section(options, "loop", run.loop),
    }


_ANEW = ("settings", "report", "predict", "serve", "results", "export", "record")  # after Ctrl-C

_STEPS: dict[str, Callable[[argparse.Namespace, dict[str, Path]], None]] = {
    "settings": _settings_of_runs,
    "flat": _flat,
    "clustering": _clustering,
    "fit": _fit,
    "control": _control,
    "extend": _extend_or_merge,
    "merge": _extend_or_merge,
    "evaluate": _evaluate,
    "noise": _noise,
    "report": _report,
    "predict": _predict,
    "serve": _serve,
    "results": _results,
    "export": _export,
    "record": _record,
}


def _section(
    options: argparse.Namespace,
    name: str,
    own: Mapping[str, Any] | None = None,
    *,
    alone: bool = False,
) -> Any:
    """Returns a section. Values of the run win over the file, the command line wins over both."""
    file = _file(options)
    values = {**({} if alone else file.values(name)), **(own or {})}
    if getattr(options, "name", None):
        values["name"] = options.name
    model = params.model_in(name, values)
    return file.section(name, model, overrides(options, model), own=own, alone=alone)


def _file(options: argparse.Namespace) -> Settings:
    """Returns the file of parameters, which is read once, and only by a command that needs it."""
    if "file" not in options:
        options.file = Settings.of(options)
        # A bad name is an error of the first stage that trains, not of the last.
        runs = options.file.section("runs", Runs).named()
        params.known_network(options.file.values("backbone"))
        for run in runs.values():
            params.known_method(run.method)
            params.known_network(run.backbone)
            if run.grouping is not None:
                params.known_grouping(run.grouping)
        options.file.section("compare", Compare).compared(runs)
    file: Settings = options.file
    return file


def _runs(options: argparse.Namespace) -> dict[str, Run]:
    return _file(options).section("runs", Runs).named()


def _known_run(options: argparse.Namespace) -> Run:
    runs = _runs(options)
    if options.run == FLAT:
        raise BadParams(
            "The flat network is no run of section 'runs': every run needs it first. Train it with "
            f"python -m train flat --seed {options.seed}."
        )
    if options.run not in runs:
        path = _file(options).path
        if not path.exists():
            raise BadParams(
                f"'{options.run}' is not a run: there is no {path}, whose section 'runs' defines "
                "the runs. Name a file with --params, or start the command in its folder."
            )
        raise BadParams(
            f"'{options.run}' is not a run.{near_miss(options.run, list(runs))} Section 'runs' of "
            f"{path} has {', '.join(runs) or 'none'}."
        )
    return runs[options.run]


if __name__ == "__main__":
    sys.exit(main())
