"""How the images of an epoch are balanced, which the sections of the methods share."""

from typing import Literal

Balance = Literal["resample", "fixed", "weights", "none"]
