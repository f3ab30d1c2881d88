"""Tests that tables and certificate do not depend on the processor: the same differences, to the bit."""

import os
import subprocess
import sys

import pytest

DIFFERENCES = """
import numpy as np
from curation import edges, like, pixels

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (60, 32, 32, 3), np.uint8).astype(np.float64)
images = np.asarray((images + np.roll(images, 1, axis=2) + np.roll(images, 1, axis=1)) / 3, np.uint8)
differences = [pixels.difference(first, second) for first, second in zip(images, images[1:])]
print([value.hex() for value in differences])
described = edges.described(images)
print([value.hex() for value in (described @ described.T).reshape(-1).tolist()])
print(like.like_pairs("a", range(60), ["train", "test"] * 30, images))
"""


def _differences(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", DIFFERENCES],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENBLAS_CORETYPE": "Prescott"},
        {"OPENBLAS_CORETYPE": "Haswell"},
        {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX2 FMA3"},
    ],
)
def test_differences_are_those_of_another_processor(environment: dict[str, str]) -> None:
    """OpenBLAS and numpy with the kernels of older processors find the same bits."""
    ours, theirs = _differences(), _differences(**environment)

    assert len(ours) == 3
    assert ours == theirs
