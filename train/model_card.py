"""
`python -m train export RUN --form safetensors`: writes a trained run with a card, as one folder.

The folder has weights.safetensors and model.json as they are in results/, and README.md, a model card
with the head of the Hugging Face Hub (https://huggingface.co/docs/hub/model-cards). A copy of the folder
at results/RUN/SEED is a trained run again.
"""

import shutil
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from personae import files
from personae.documents import Document
from personae.errors import BadParams
from personae.text import code
from train import saved
from train.documents import CostDocument, FitDocument, MetricsDocument, ModelDocument

_DocumentT = TypeVar("_DocumentT", bound=Document)
_FILES: Final = ("weights.safetensors", "model.json")
_LIMITS = (
    "The model knows the labels above and no other: it gives one of them to any image. It was trained on "
    "images that belong to their artists; no licence is recorded for them, and none is given here. "
    "Sharing the model may need permission."
)


def run(name: str, *, seed: int, results_dir: Path, out: Path | None = None) -> Path:
    """
    Writes the run to the new folder `out`, by default NAME-SEED; returns the folder.

    Raises:
        BadParams: `out` exists.
        MissingInput, BadCheckpoint: The run was not trained, or its files are damaged.
    """
    folder, source = out or Path(f"{name}-{seed}"), results_dir / name / str(seed)
    if folder.exists():
        raise BadParams(f"{folder} exists. Name a new folder with --out.")
    model = saved.load(source).model
    text = card(
        model,
        metrics=_read(MetricsDocument, source / "metrics.json"),
        cost=_read(CostDocument, source / "cost.json"),
        fit=_read(FitDocument, source / "fit.json"),
    )
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of an export that was stopped
    for file in _FILES:
        files.write_bytes(part / file, (source / file).read_bytes())
    files.write_text(part / "README.md", text)
    part.rename(folder)
    return folder


def card(
    model: ModelDocument,
    *,
    metrics: MetricsDocument | None,
    cost: CostDocument | None,
    fit: FitDocument | None,
) -> str:
    """Returns the text of the card; a document that is None leaves its section out."""
    title = f"# Model card: {code(model.run)}, seed {model.seed}"
    what = (
        f"Method {code(model.method)} with {len(model.labels)} labels, for RGB images of {model.side} "
        f"pixels. Made by Personae {metadata.version('personae')}."
    )
    parts = [_head(model, metrics), title, what, "## Use", _use(model)]
    parts += ["## Labels", ", ".join(map(code, model.labels))]
    if metrics is not None:
        parts += ["## Figures", _figures(metrics)]
    if cost is not None:
        parts += ["## Cost of a prediction", _table("cost", _costs(cost))]
    parts += ["## Training", _table("fact", _training(model, fit)), "## Limits", _LIMITS]
    return "\n\n".join(parts) + "\n"


def _head(model: ModelDocument, metrics: MetricsDocument | None) -> str:
    head: dict[str, Any] = {
        "license": "unknown",
        "library_name": "personae",
        "pipeline_tag": "image-classification",
        "tags": ["personae", model.method],
    }
    if metrics is not None:
        data = {"type": "personae", "name": f"Personae {model.root_sha256[:12]}", "split": "test"}
        result = {
            "task": {"type": "image-classification"},
            "dataset": data,
            "metrics": [{"type": "accuracy", "value": metrics.msr}],
        }
        head["model-index"] = [{"name": f"{model.run}-{model.seed}", "results": [result]}]
    return f"---\n{yaml.safe_dump(head, sort_keys=False).rstrip()}\n---"


def _use(model: ModelDocument) -> str:
    target = f"results/{model.run}/{model.seed}"
    return (
        f"As a run of Personae, with this folder copied to `{target}`:\n\n"
        f"```sh\npython -m train predict {model.run} --seed {model.seed} images/\n```\n\n"
        "The weights alone, in torch; their metadata describes the network and its labels:\n\n"
        "```python\nfrom safetensors.torch import load_file\n\n"
        'weights = load_file("weights.safetensors")\n```'
    )


def _figures(metrics: MetricsDocument) -> str:
    figures = {
        "accuracy": metrics.msr,
        "mean accuracy of the labels": metrics.msr_macro,
        "accuracy on white backgrounds": metrics.msr_white,
        "top-5 accuracy": metrics.top5,
        "negative log-likelihood, nats": metrics.nll,
        "expected calibration error": metrics.ece,
    }
    rows = [(name, f"{value:.4f}") for name, value in figures.items() if value is not None]
    return f"On {metrics.n_test} test images, each rate from 0 to 1.\n\n{_table('figure', rows)}"


def _costs(cost: CostDocument) -> list[tuple[str, str]]:
    return [
        ("parameters", f"{cost.params:,}"),
        ("multiply-accumulate operations, expected", f"{cost.macs_expected:,.0f}"),
        ("multiply-accumulate operations, at most", f"{cost.macs_max:,}"),
    ]


def _training(model: ModelDocument, fit: FitDocument | None) -> Iterator[tuple[str, str]]:
    """Yields what the training was of and took."""
    yield "samples", f"`{model.root_sha256}`"
    if model.selection is not None:
        yield "selection", code(model.selection)
    yield "network", code(model.backbone)
    if model.weights_sha256 is not None:
        yield "sha256 of the weights", f"`{model.weights_sha256}`"
    if fit is not None:
        yield "epochs", ", ".join(str(network.epochs) for network in fit.networks)
        yield "seconds", f"{fit.total_seconds:.0f}"
        yield "device", code(fit.device_name)
        yield "commit of the program", code(fit.commit or "unknown")
    for name, version in sorted(model.versions.items()):
        yield f"version of {name}", code(version)


def _table(heading: str, rows: Sequence[tuple[str, str]] | Iterator[tuple[str, str]]) -> str:
    return "\n".join(f"| {a} | {b} |" for a, b in [(heading, "value"), ("---", "---"), *rows])


def _read(kind: type[_DocumentT], path: Path) -> _DocumentT | None:
    """Returns a document of the run; None where its stage did not run."""
    return kind.read(path) if path.exists() else None
