"""METHODS: name to module. A method is named here, in params.yaml and in dvc.yaml."""

from types import ModuleType

from train.methods import dhnn, ensemble, flat, hdcnn, hiernet, merged, uppsala

METHODS: dict[str, ModuleType] = {
    "flat": flat,
    "ensemble": ensemble,
    "uppsala": uppsala,
    "hiernet": hiernet,
    "hdcnn": hdcnn,
    "merged": merged,
    "dhnn": dhnn,
}
