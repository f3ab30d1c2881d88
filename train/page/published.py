"""
The figures of the five papers that the page compares with ours, and doubts about them.

Colin and Nagarajan, "A hierarchical architecture of CNNs to increase the performance on a
categorization problem", project report, Uppsala University, May 2018, Tables 1 and 2.
Tempfli and Sándor, "HierNet: Image Recognition with Hierarchical Convolutional Networks".
Yan and others, "HD-CNN: Hierarchical Deep Convolutional Neural Networks for Large Scale Visual
Recognition", 2015. Dutt, Pellerin and Quénot, "Improving Hierarchical Image Classification with
Merged CNN Architectures", 2017. Koo, Klabjan and Utke, "Combined Convolutional and Recurrent Neural
Networks for Hierarchical Classification of Images", slides.
What a paper does not give is None, never zero. Each `*_DATA` names figures that are only quoted.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UppsalaAccuracy:
    """A row of Table 1: shares of test images in percent; how many is not printed."""

    architecture: str
    data: str
    msr: float
    micp: float | None
    msr_white: float | None

    @property
    def implied(self) -> float | None:
        """Accuracy inside the right cluster, MSR / MICP, in percent; derived, not printed."""
        return 100 * self.msr / self.micp if self.micp else None


@dataclass(frozen=True, slots=True)
class UppsalaSeconds:
    """
    A row of Table 2, in seconds of training.

    `total` and `parallel` leave out the networks whose confusions gave the clusters: the flat
    network, and any others, whose seconds are in `finding`, and whose share of the critical path
    is in `finding_parallel`.
    """

    kind: str
    flat: float
    root: float | None
    subnetworks_mean: float | None
    subnetworks_max: float | None
    total: float
    parallel: float
    finding: float = 0.0
    finding_parallel: float = 0.0

    @property
    def speed_ups(self) -> tuple[float, float]:
        """Flat / total and flat / parallel, as the report counts."""
        return self.flat / self.total, self.flat / self.parallel

    @property
    def whole(self) -> tuple[float, float]:
        """Total and parallel seconds with all networks that gave the clusters."""
        return (
            self.total + self.flat + self.finding,
            self.parallel + self.flat + self.finding_parallel,
        )

    @property
    def whole_speed_ups(self) -> tuple[float, float]:
        """Flat / total and flat / parallel with all networks that gave the clusters."""
        total, parallel = self.whole
        return self.flat / total, self.flat / parallel


@dataclass(frozen=True, slots=True)
class HierNetAccuracy:
    """A row of HierNet's tables: accuracy in percent of flat ResNet-(6n + 2), and of HierNet."""

    n: int
    flat: float
    full: float
    route: float
    act: str = "relu"
    """The activation: relu in its Table 1, elu in its Table 2."""

    @property
    def backbone(self) -> str:
        """The name of this network in the parameter `backbone.name`."""
        return f"resnet{6 * self.n + 2}"


@dataclass(frozen=True, slots=True)
class HdcnnError:
    """
    A row of HD-CNN's table on CIFAR-100: errors in percent over ten views and with one view.

    `memory` is in MB. The paper does not give the number of images behind `seconds`.
    """

    model: str
    ten_views: float | None
    one_view: float | None
    memory: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class MergedClaim:
    """
    A claim of the merged networks' paper, and the runs here that test it.

    `figures` are "labels" and "categories" (errors) and "seconds" (of training). Runs are named by
    the number of stages that they share, or "apart". The paper claims that each of `lower` lies
    below each of `higher`, or, where `is_equal`, that both are as good.
    """

    text: str
    figures: tuple[str, ...] = ()
    lower: tuple[str, ...] = ()
    higher: tuple[str, ...] = ()
    is_equal: bool = False


@dataclass(frozen=True, slots=True)
class DhnnF1:
    """A cell of DHNN's table: mean F1 of paths and of nodes with standard deviations, in percent."""

    path: float
    path_deviation: float
    node: float
    node_deviation: float


@dataclass(frozen=True, slots=True)
class DhnnAccuracy:
    """A row of DHNN's other table: accuracy in percent of whole paths and of the nodes on them."""

    model: str
    path: float
    node: float


ACCURACY = (
    UppsalaAccuracy("flat", "D25", 65.3, 77.8, 71.6),
    UppsalaAccuracy("hierarchical", "D25", 66.0, 77.0, 67.5),
    UppsalaAccuracy("deep hierarchical", "D25", 57.9, None, 61.2),
    UppsalaAccuracy("flat", "D123", 42.5, 64.0, 46.1),
    UppsalaAccuracy("hierarchical", "D123", 41.0, 68.6, 46.0),
)

SECONDS = (
    UppsalaSeconds("D25, ordinary", 9900, 3900, 470, 720, 6620, 4620),
    UppsalaSeconds("D25, deep", 9900, 2220, 406, 1500, 9528, 3720),
    UppsalaSeconds("D123, ordinary", 9451, 3540, 805, 1476, 8370, 5016),
)

HIERNET = (
    HierNetAccuracy(3, 65.96, 68.89, 68.08),
    HierNetAccuracy(5, 67.08, 70.65, 70.45),
    HierNetAccuracy(7, 68.12, 71.25, 70.75),
    HierNetAccuracy(9, 68.38, 72.15, 72.01),
    HierNetAccuracy(18, 71.33, 73.45, 73.27),
    HierNetAccuracy(3, 65.54, 68.30, 68.16, act="elu"),
    HierNetAccuracy(5, 67.88, 70.71, 70.43, act="elu"),
    HierNetAccuracy(7, 68.79, 70.83, 70.79, act="elu"),
    HierNetAccuracy(9, 69.03, 72.47, 72.29, act="elu"),
    HierNetAccuracy(18, 72.93, 74.37, 74.15, act="elu"),
)

DATA = (
    "Danbooru illustrations of 128 × 128 pixels. D25: 25 labels with 58,470 images, half of them "
    "used for a training; D123: 123 labels with 168,580, a fifth used. One training each, no seed, "
    "no interval, size of the test set not printed."
)

DOUBTS = (
    (
        "One training each. The 0.7 points between its flat and hierarchical network on D25 are "
        "within chance (z = 1.78, p about 0.075, if the other half of the images was the test "
        "set)."
    ),
    (
        "Its Table 2 leaves out the flat network whose confusion gave the clusters: the tree is "
        "faster only if that network costs nothing. The columns with the clusters' networks are ours."
    ),
    "6,620 s is printed: (6,620 − 3,900) / 470 is 5.79 subnetworks; 6 × 470 would give 6,720.",
    "D123: (8,370 − 3,540) / 805 is 6.0 subnetworks, and its Table 5 lists seven clusters.",
    (
        "Deep: its 3,720 s in parallel add only the longest single network to the root. Ours is "
        "the longest chain of networks that depend on one another."
    ),
    "Speed-ups and accuracy inside the cluster (MSR / MICP) are derived from what is printed.",
)

HIERNET_DATA = (
    "CIFAR-100 of 32 × 32 pixels, all 50,000 training images. Groups and settings were chosen on one "
    "half of the official test set; accuracy is on 4,992 images of the other. The ResNet trains for "
    "200 epochs, and HierNet starts from it and trains for 200 more (78,000 steps of 128 each), with about 7 times its "
    "parameters. One seed, no control of equal cost."
)

HDCNN = (
    HdcnnError("NIN, the flat network", 35.27, 37.29, 188, 0.04),
    HdcnnError("average of two NIN", 35.13, None),
    HdcnnError("NIN with twice the filters", 34.26, None),
    HdcnnError("HD-CNN before the tuning together", 33.33, None),
    HdcnnError("HD-CNN tuned without consistency", 33.21, None),
    HdcnnError("HD-CNN", 32.62, 34.36, 459, 0.28),
    HdcnnError("HD-CNN, by its authors' notebook", None, 34.50),
    HdcnnError("HD-CNN without shared layers", None, 34.50, 1356, 2.43),
    HdcnnError("HD-CNN, conditional (beta 6)", None, 34.57, 447, 0.10),
    HdcnnError("HD-CNN, conditional and compressed", None, 34.73, 286, 0.10),
)

HDCNN_DATA = (
    "CIFAR-100 of 32 × 32 pixels, centre and random crops of 26, all 50,000 training images for "
    "the last network; nine fine components of 389 labels together, chosen on 10,000 of them. One "
    "training. The hierarchy has 9.3 times the parameters of NIN, twice the filters about 3.9 times. "
    "The figures below are quoted as the paper's and were not checked against it. Exceptions: a "
    "review prints 447 and 286 MB, and the authors' code has 32.62 and the notebook's 34.50 %."
)

_BOTH = ("labels", "categories")
MERGED_CLAIMS = (
    MergedClaim(
        "Adaptation (alpha 1) lowers errors (alpha 0: none), of one network and of ensembles."
    ),
    MergedClaim(
        "For categories, alpha 2 gives lower errors than alpha 0, and alpha 1 lower than both."
    ),
    MergedClaim(
        "One shared stage of three is as good as two shared stages (alpha 1).",
        _BOTH,
        ("1",),
        ("2",),
        is_equal=True,
    ),
    MergedClaim(
        "One or two shared stages give lower errors than none, trained together or apart "
        "(paired t, p < 0.05).",
        _BOTH,
        ("1", "2"),
        ("0", "apart"),
    ),
    MergedClaim(
        "One or two shared stages give lower errors than all three (no test stated).",
        _BOTH,
        ("1", "2"),
        ("3",),
    ),
    MergedClaim(
        "Two networks apart are as good as two trained together that share no stage (alpha 1).",
        _BOTH,
        ("apart",),
        ("0",),
        is_equal=True,
    ),
    MergedClaim(
        "Merged networks train in less time than two networks apart.",
        ("seconds",),
        ("2",),
        ("apart",),
    ),
    MergedClaim(
        "An alpha 0.1 (labels) or 0.2 (categories) away from the best is significantly worse."
    ),
    MergedClaim("The gain shrinks as an ensemble grows."),
    MergedClaim("DenseNet-BC-100 has lower errors than ResNet-164 throughout."),
)

MERGED_DATA = (
    "CIFAR-100 with its 20 given categories; ResNet-164 and DenseNet-BC-100 from scratch, as in their "
    "papers, five trainings of each. The paper draws errors as curves against alpha on the test images, "
    "and prints no table. Flat, quoted from their own papers and not checked: 24.33 and 22.27 % "
    "of error."
)

DHNN_BACKBONES = ("VGG-16", "ResNet-50", "SE-ResNet-50", "CBAM-ResNet-50")

DHNN = {  # F1 on Open Images of each model on each of DHNN_BACKBONES
    "flat CNN": (
        DhnnF1(68.62, 0.09, 72.29, 0.09),
        DhnnF1(71.15, 0.04, 74.47, 0.07),
        DhnnF1(71.22, 0.10, 74.49, 0.08),
        DhnnF1(71.17, 0.09, 74.42, 0.04),
    ),
    "S2S-Linear": (
        DhnnF1(71.49, 0.10, 74.84, 0.12),
        DhnnF1(72.14, 0.14, 75.46, 0.16),
        DhnnF1(72.05, 0.04, 75.33, 0.08),
        DhnnF1(71.71, 0.19, 74.98, 0.19),
    ),
    "S2S-Alt-Linear": (
        DhnnF1(70.76, 0.06, 73.97, 0.15),
        DhnnF1(70.78, 0.09, 73.80, 0.14),
        DhnnF1(69.52, 0.11, 72.45, 0.14),
        DhnnF1(66.44, 0.43, 68.84, 0.53),
    ),
    "S2S-Conv": (
        DhnnF1(68.61, 0.41, 71.62, 0.51),
        DhnnF1(70.42, 0.39, 73.55, 0.44),
        DhnnF1(70.49, 0.15, 73.65, 0.14),
        DhnnF1(70.24, 0.07, 73.43, 0.05),
    ),
    "S2S-Alt-Conv": (
        DhnnF1(70.70, 0.14, 73.95, 0.06),
        DhnnF1(70.75, 0.15, 73.98, 0.18),
        DhnnF1(70.35, 0.09, 73.51, 0.06),
        DhnnF1(72.88, 0.09, 69.82, 0.07),
    ),
    "S2S-Pool": (
        DhnnF1(71.39, 0.16, 74.76, 0.18),
        DhnnF1(71.98, 0.06, 75.40, 0.07),
        DhnnF1(71.79, 0.15, 75.12, 0.16),
        DhnnF1(71.53, 0.12, 74.82, 0.10),
    ),
    "S2S-Alt-Pool": (
        DhnnF1(71.49, 0.10, 74.84, 0.07),
        DhnnF1(71.70, 0.06, 74.97, 0.09),
        DhnnF1(71.42, 0.05, 74.73, 0.04),
        DhnnF1(71.29, 0.18, 74.55, 0.11),
    ),
    "S2S-Pool large": (
        DhnnF1(71.93, 0.09, 75.29, 0.07),
        DhnnF1(72.05, 0.06, 75.43, 0.03),
        DhnnF1(71.75, 0.09, 75.07, 0.04),
        DhnnF1(71.57, 0.07, 74.89, 0.07),
    ),
    "S2S-Alt-Pool large": (
        DhnnF1(71.26, 0.13, 74.58, 0.17),
        DhnnF1(71.66, 0.04, 74.89, 0.05),
        DhnnF1(71.07, 0.13, 74.27, 0.18),
        DhnnF1(71.32, 0.05, 74.55, 0.01),
    ),
}

DHNN_REAL = (
    DhnnAccuracy("VGG-16", 64.0, 71.3),
    DhnnAccuracy("VGG-RNN", 59.9, 77.3),
    DhnnAccuracy("VGG-RNN-Alt", 61.7, 78.1),
    DhnnAccuracy("VGG-RNN-Alt-Resi", 65.3, 80.5),
    DhnnAccuracy("Res-50", 62.1, 68.8),
    DhnnAccuracy("Res-RNN", 63.4, 78.9),
    DhnnAccuracy("Res-RNN-Alt", 62.4, 77.0),
    DhnnAccuracy("Res-RNN-Alt-Resi", 64.0, 78.4),
)

DHNN_DATA = (
    "Part of Open Images, whose list and tree are not published, and REAL, a proprietary set with "
    "paths of one length. A node of a flat network is right where it lies on its label's path. How F1 "
    "is counted is not given, nor what Alt means; here it means other layers at each step."
)

DHNN_DOUBT = (
    "* Printed so, and almost certainly transposed (69.82 / 72.88): in every other cell nodes "
    "score above paths."
)
