"""METHODS: name to module. A method is named here, in params.yaml and in dvc.yaml."""

from types import ModuleType

from train.methods import flat, hiernet, uppsala

METHODS: dict[str, ModuleType] = {"flat": flat, "uppsala": uppsala, "hiernet": hiernet}
