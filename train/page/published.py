"""
The figures printed in the Uppsala report, to stand beside ours.

Colin and Nagarajan, "A hierarchical architecture of CNNs to increase the performance on a
categorization problem", project report, Uppsala University, May 2018, Tables 1 and 2.
What the report does not give is None, never zero.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Success:
    """A row of Table 1: shares of test pictures in percent; how many is not printed."""

    architecture: str
    labels: int
    msr: float
    micp: float | None
    msr_white: float


@dataclass(frozen=True, slots=True)
class Seconds:
    """
    A row of Table 2, in seconds of training.

    `total` and `parallel` leave out the flat network that the clusters were found with.
    """

    architecture: str
    labels: int
    flat: int
    root: int
    subnetworks_mean: int
    subnetworks_max: int
    total: int
    parallel: int


SUCCESS = (
    Success("flat", 25, 65.3, 77.8, 71.6),
    Success("hierarchical", 25, 66.0, 77.0, 67.5),
    Success("deep hierarchical", 25, 57.9, None, 61.2),
    Success("flat", 123, 42.5, 64.0, 46.1),
    Success("hierarchical", 123, 41.0, 68.6, 46.0),
)

SECONDS = (
    Seconds("hierarchical", 25, 9900, 3900, 470, 720, 6620, 4620),
    Seconds("deep hierarchical", 25, 9900, 2220, 406, 1500, 9528, 3720),
    Seconds("hierarchical", 123, 9451, 3540, 805, 1476, 8370, 5016),
)

DATA = (
    "Danbooru illustrations of 128 × 128 pixels: 25 labels with 58,470 pictures, half of them "
    "used for a training; 123 labels with 168,580, a fifth used. One training each, no seed, "
    "no interval, size of the test set not printed."
)

DOUBTS = (
    "One training each: 0.7 points between its flat and hierarchical networks are within chance.",
    "Its seconds leave out the flat network that the clusters were found with.",
    "6,620 s is printed; 3,900 + 6 × 470 would be 6,720.",
)
