"""METHODS: the registry, from name to module. params.yaml and dvc.yaml use the same names."""

from types import ModuleType

from train.methods import ensemble, flat, hiernet
from train.methods.dhnn import classifier as dhnn
from train.methods.hdcnn import classifier as hdcnn
from train.methods.merged import classifier as merged
from train.methods.recover import classifier as recover
from train.methods.uppsala import classifier as uppsala

METHODS: dict[str, ModuleType] = {
    "flat": flat,
    "ensemble": ensemble,
    "uppsala": uppsala,
    "hiernet": hiernet,
    "hdcnn": hdcnn,
    "merged": merged,
    "dhnn": dhnn,
    "recover": recover,
}
