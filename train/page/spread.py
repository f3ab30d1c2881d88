"""One value for each seed, and what a table shows of them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """One value for each seed, in the order of the seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float | None:
        """The standard deviation over seeds, divided by n - 1; None with one seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None
