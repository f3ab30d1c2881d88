"""
`python -m train export RUN`: writes a trained run as one ONNX file.

The file needs neither torch nor Personae. Its input is `pictures`, float32 of shape (batch, 3,
side, side) in 0..1, for any batch. Its outputs are `probabilities`, those of the default mode, and
for a hierarchy `full` and `coarse`. The file is kept only if onnxruntime's outputs equal torch's.
"""

import importlib
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from personae import files
from personae.errors import BadParams, MissingPackage
from train import saved
from train.classifier import HierarchicalClassifier
from train.errors import BadExport

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of probabilities; measured on small models: 2e-7, from another order of sums
_NAMES = {"default": "probabilities", "full": "full", "coarse": "coarse"}
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_BATCHES = (1, 3)  # images per check: a single image, and several


class _Outputs(nn.Module):
    """The forward pass to export: a tensor of images to a tuple of named outputs."""

    def __init__(self, classifier: HierarchicalClassifier, names: Sequence[str]) -> None:
        super().__init__()
        self.classifier = classifier
        self.names = names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.classifier.outputs(images)
        return tuple(outputs[name] for name in self.names)


@torch.no_grad()
def run(
    name: str,
    *,
    seed: int,
    results_dir: Path,
    out: Path | None = None,
    tolerance: float = TOLERANCE,
) -> Path:
    """
    Writes the run to `out`, by default NAME-SEED.onnx in the working folder; returns the path.

    Raises:
        BadParams: `out` is a folder.
        MissingInput: The run was not trained.
        MissingPackage: Extra `export` is not installed.
        BadExport: onnxruntime cannot run the file or its outputs differ from torch's; no file is
            left.
    """
    _check_packages()
    path = out or Path(f"{name}-{seed}.onnx")
    if path.is_dir():
        raise BadParams(f"{path} is a folder: name a file in it with --out.")
    trained = saved.load(results_dir / name / str(seed))
    classifier, side = trained.classifier, trained.model.side
    facts = {
        "run": name,
        "seed": str(seed),
        "labels": json.dumps(trained.model.labels, ensure_ascii=False),
        "root_sha256": trained.model.root_sha256,
    }
    files.make_folder(path.parent)
    part = path.with_name(path.name + ".part")
    try:
        write(part, classifier, side=side, facts=facts)
        worst = check(part, classifier, side=side, tolerance=tolerance)
        files.publish(part, path)
    finally:
        part.unlink(missing_ok=True)
    log.info(
        "%s: %.1f MB, equal to torch within %.1e on batches of %s random images",
        path,
        path.stat().st_size / 1e6,
        worst,
        " and ".join(map(str, _BATCHES)),
    )
    return path


def write(
    path: Path, classifier: HierarchicalClassifier, *, side: int, facts: dict[str, str]
) -> None:
    """
    Writes a classifier in evaluation mode as ONNX, with `facts` as the file's metadata.

    Raises:
        BadExport: torch's exporter cannot trace the classifier.
    """
    example = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    names = [name for name in classifier.outputs(example) if name in _NAMES]
    for logger in ("onnxscript", "onnx_ir"):  # they log a line for every node that they remove
        logging.getLogger(logger).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            program = torch.onnx.export(
                _Outputs(classifier, names).eval(),
                (example,),
                dynamo=True,
                verbose=False,
                input_names=["pictures"],
                output_names=[_NAMES[name] for name in names],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise BadExport(
            f"torch {torch.__version__} cannot export this method: {error}. Try another version "
            "of torch and onnxscript, and report it with the name of the method."
        ) from error
    assert program is not None, "dynamo gives a program"  # noqa: S101  # torch types both exporters
    program.model.metadata_props.update(facts)
    program.save(path, external_data=False)


def check(
    path: Path, classifier: HierarchicalClassifier, *, side: int, tolerance: float = TOLERANCE
) -> float:
    """
    Returns the largest difference to torch over random images, in batches of one and three.

    Raises:
        BadExport: onnxruntime cannot run the file, the difference is above `tolerance`, or an
            output has another shape.
    """
    runtime = importlib.import_module("onnxruntime")
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    try:
        session = runtime.InferenceSession(path)
        for batch in _BATCHES:
            images = torch.rand(batch, 3, side, side, generator=generator)
            exported = session.run(None, {"pictures": images.numpy()})
            worst = max(worst, _compare(classifier.outputs(images), exported, tolerance=tolerance))
    except _runtime_errors(runtime) as error:
        raise BadExport(
            f"onnxruntime cannot run the ONNX file ({error}): nothing was kept. Try another version "
            "of onnxruntime, and report it with the name of the method."
        ) from error
    return worst


def _compare(
    outputs: dict[str, Tensor], exported: Sequence[np.ndarray], *, tolerance: float
) -> float:
    """Returns the largest difference of the outputs of one batch."""
    names = [name for name in outputs if name in _NAMES]
    worst = 0.0
    for name, values in zip(names, exported, strict=True):
        difference = _difference(outputs[name].numpy(), values)
        if not difference <= tolerance:
            raise BadExport(
                f"Output '{_NAMES[name]}' of the ONNX file differs from torch by {difference:.2g} "
                f"in a batch of {len(outputs[name])}, and {tolerance:g} is allowed: nothing was "
                "kept. Try another version of onnxruntime, or export on another machine."
            )
        worst = max(worst, difference)
    return worst


def _difference(
    expected: Float[np.ndarray, "batch output"], actual: Float[np.ndarray, "..."]
) -> float:
    same = expected.shape == actual.shape
    return float(np.abs(expected - actual).max()) if same else float("inf")


def _runtime_errors(runtime: ModuleType) -> tuple[type[Exception], ...]:
    """Returns every exception class of onnxruntime; they have no base class in common."""
    classes = vars(runtime.capi.onnxruntime_pybind11_state).values()
    return tuple(kind for kind in classes if isinstance(kind, type) and issubclass(kind, Exception))


def _check_packages() -> None:
    for package in _PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingPackage(
                f"Exporting needs {', '.join(_PACKAGES)}, and importing {package} failed "
                f"({error}). Install the extra: pip install -e '.[export]'."
            ) from error
