"""
METHODS: the module of each method by name, which defines its `Classifier` and knows its `Params`.

A method is a module here, or the module `classifier` of a folder here, with a section of the same name
in train/params. Nothing else names the methods (docs/howto/method.md).
"""

import importlib
from types import ModuleType

from train import params


def _module(name: str) -> ModuleType:
    module = importlib.import_module(f"{__name__}.{name}")
    is_folder = hasattr(module, "__path__")
    return importlib.import_module(f"{__name__}.{name}.classifier") if is_folder else module


METHODS: dict[str, ModuleType] = {name: _module(name) for name in params.METHODS}
