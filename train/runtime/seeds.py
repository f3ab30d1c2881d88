"""The seed of every random choice of training."""

import numpy as np
import torch

from personae import sampling


def seed(*parts: int | str) -> np.random.Generator:
    """
    Seeds torch and returns a numpy generator, both from a hash of `parts`, such as seed and epoch.

    Equal parts give equal numbers on every machine and after every resume, so no random state has
    to be stored.
    """
    number = int.from_bytes(sampling.digest(*parts)[:8], "little") >> 1
    # Without an accelerator torch.manual_seed formats a traceback for it, which takes milliseconds.
    if torch.cuda.is_available():
        torch.manual_seed(number)
    else:
        torch.default_generator.manual_seed(number)
    return sampling.generator(*parts)
