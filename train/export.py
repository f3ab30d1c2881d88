"""
`python -m train export RUN`: a trained run as one ONNX file that needs neither torch nor Personae.

Input `pictures` (any number, 3, side, side), float32 in 0..1; outputs `probabilities` as the run
predicts by default and, for a hierarchy, `full` and `coarse`. The file is checked before it is
there: onnxruntime must give what torch gives.
"""

import importlib
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from personae.errors import BadParams
from train import saved
from train.classifier import HierarchicalClassifier
from train.errors import BadExport, MissingPackage

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # on probabilities; the two sum in another order, which gave 2e-7 on small models
_NAMES = {"default": "probabilities", "full": "full", "coarse": "coarse"}
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_BATCHES = (1, 3)


class _Outputs(nn.Module):
    """A classifier as the exporter wants it: a module from a tensor to a tuple of tensors."""

    def __init__(self, classifier: HierarchicalClassifier, names: Sequence[str]) -> None:
        super().__init__()
        self.classifier = classifier
        self.names = names

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        found = self.classifier.outputs(pictures)
        return tuple(found[name] for name in self.names)


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
    Writes the run to `out`, by default NAME-SEED.onnx here, and returns the path.

    Raises:
        BadParams: `out` is a folder.
        MissingInput: The run was not trained.
        MissingPackage: Extra `export` is not installed.
        BadExport: onnxruntime and torch differ; no file is left.
    """
    _check_packages()
    path = out or Path(f"{name}-{seed}.onnx")
    if path.is_dir():
        raise BadParams(f"{path} is a folder: name a file in it with --out.")
    run_saved = saved.load(results_dir / name / str(seed))
    classifier, side = run_saved.classifier, run_saved.model.side
    facts = {
        "run": name,
        "seed": str(seed),
        "labels": json.dumps(run_saved.model.labels, ensure_ascii=False),
        "root_sha256": run_saved.model.root_sha256,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        write(part, classifier, side=side, facts=facts)
        worst = check(part, classifier, side=side, tolerance=tolerance)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    log.info(
        "%s: %.1f MB, equal to torch within %.1e on %s random images",
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
        BadExport: torch's exporter cannot follow the classifier.
    """
    example = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    names = [name for name in classifier.outputs(example) if name in _NAMES]
    for talkative in ("onnxscript", "onnx_ir"):  # a line for every node they remove
        logging.getLogger(talkative).setLevel(logging.WARNING)
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
        BadExport: It is above `tolerance`, or an output has another shape.
    """
    session = importlib.import_module("onnxruntime").InferenceSession(path)
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for batch in _BATCHES:
        pictures = torch.rand(batch, 3, side, side, generator=generator)
        given = session.run(None, {"pictures": pictures.numpy()})
        wanted = classifier.outputs(pictures)
        names = [name for name in wanted if name in _NAMES]
        for name, other in zip(names, given, strict=True):
            difference = _difference(wanted[name].numpy(), other)
            if not difference <= tolerance:
                raise BadExport(
                    f"Output '{_NAMES[name]}' of the ONNX file differs from torch by {difference:.2g} "
                    f"for {batch} images, and {tolerance:g} is allowed: nothing was kept. "
                    "Try another version of onnxruntime, or export on another machine."
                )
            worst = max(worst, difference)
    return worst


def _difference(
    wanted: Float[np.ndarray, "batch output"], given: Float[np.ndarray, "..."]
) -> float:
    return float(np.abs(wanted - given).max()) if wanted.shape == given.shape else float("inf")


def _check_packages() -> None:
    for package in _PACKAGES:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingPackage(
                f"Exporting needs {', '.join(_PACKAGES)}, and importing {package} failed "
                f"({error}). Install the extra: pip install -e '.[export]'."
            ) from error
