"""
The import of torchvision, for its classifiers and for comparisons in benchmarks.

Its wheels are built for CUDA. With a CPU build of torch their compiled part does not load, and
`import torchvision` fails at two operators that nothing here uses. They are declared here without
an implementation.
"""

import importlib
import sys
import warnings
from types import ModuleType

import torch

from personae.errors import MissingPackage

_OPERATORS = ("nms", "qnms")  # registered as fake when torchvision 0.26 to 0.28 is imported
_declared: list[torch.library.Library] = []  # a declaration lives as long as its object


def torchvision() -> ModuleType:
    """
    Imports torchvision and returns the module.

    With a CPU build of torch, `ops.nms` and JPEG input or output still fail. Models, transforms and
    everything else in Python work.

    Raises:
        MissingPackage: torchvision is not installed, or its import fails in another way.
    """
    try:
        return _import()
    except RuntimeError as error:
        # Declared in advance, the operators would clash with a compiled part that does load.
        if "torchvision::" not in str(error) or _declared:
            raise _missing(error) from error
    except ImportError as error:
        raise _missing(error) from error
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # what the failed import left behind
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # as below
    for operator in _OPERATORS:
        schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    _declared.append(library)
    try:
        return _import()
    except (ImportError, RuntimeError) as error:
        raise _missing(error) from error


def _import() -> ModuleType:
    with warnings.catch_warnings():
        # JPEG in the wheel needs libraries of CUDA too; nothing here reads an image with it.
        warnings.filterwarnings("ignore", message="Failed to load image Python extension")
        return importlib.import_module("torchvision")


def _missing(error: Exception) -> MissingPackage:
    return MissingPackage(
        f"torchvision cannot be imported ({error}). Install the one made for torch "
        f"{torch.__version__}: pip install -e '.[train]'."
    )
