"""The drawings of the method pages, as SVG."""

from math import cos, pi

from generators.svg import INK, Canvas

M6 = (
    (0.70, 0.15, 0.10, 0.03, 0.01, 0.01),
    (0.20, 0.60, 0.12, 0.04, 0.02, 0.02),
    (0.10, 0.15, 0.65, 0.05, 0.03, 0.02),
    (0.02, 0.03, 0.03, 0.72, 0.18, 0.02),
    (0.01, 0.02, 0.02, 0.25, 0.68, 0.02),
    (0.01, 0.01, 0.01, 0.02, 0.01, 0.94),
)
"""The confusion matrix of the worked examples: row i is the true label, column j the prediction."""


def flat() -> Canvas:
    """Blocks of convolutions, dense layers, one softmax."""
    canvas = Canvas(760, 190, "The flat network: five blocks, two dense layers, one softmax")
    sizes = ("64\n64 × 64", "128\n32 × 32", "128\n16 × 16", "128\n8 × 8", "128\n4 × 4")
    canvas.box(15, 60, 80, 70, "image\n128 × 128")
    for number, size in enumerate(sizes):
        x = 120 + 88 * number
        canvas.arrow((x - 25 if number == 0 else x - 18, 95), (x - 1, 95))
        canvas.box(x, 45, 70, 100, f"block {number + 1}\n{size}", fill="shared")
    canvas.arrow((542, 95), (559, 95))
    canvas.box(560, 60, 80, 70, "dense 512\ndense 512", fill="own")
    canvas.arrow((640, 95), (657, 95))
    canvas.box(658, 60, 87, 70, "softmax\nover N labels", fill="output")
    canvas.text(334, 30, "convolutions 3 × 3, each block ends in a 2 × 2 max pool")
    canvas.text(334, 172, "channels, and height × width after the pool", size=11)
    return canvas


def uppsala() -> Canvas:
    """A root over clusters and a subnetwork per cluster, on shared convolutions."""
    canvas = Canvas(760, 330, "The Uppsala tree: a root over clusters, a subnetwork per cluster")
    canvas.box(20, 120, 80, 60, "image")
    canvas.arrow((100, 150), (129, 150))
    canvas.box(130, 105, 130, 90, "convolutions\nshared, frozen\nafter the root", fill="shared")
    canvas.arrow((260, 150), (299, 150))
    canvas.box(300, 120, 110, 60, "root\nK outputs", fill="own")
    for number, (name, labels) in enumerate((("0", "012"), ("1", "34"))):
        y = 30 + 115 * number
        canvas.arrow((410, 150), (450, 150), (450, y + 30), (479, y + 30))
        canvas.box(480, y, 120, 60, f"subnetwork {name}\n{len(labels)} outputs", fill="own")
        step = 60 / (len(labels) - 1)
        for index, label in enumerate(labels):
            top = y + 30 - 30 + step * index
            canvas.arrow((600, y + 30), (649, top))
            canvas.ellipse(650, top - 13, 90, 26, f"label {label}")
    canvas.arrow((410, 150), (450, 150), (450, 290), (649, 290))
    canvas.ellipse(650, 277, 90, 26, "label 5")
    canvas.text(545, 282, "a cluster of one label: no subnetwork", size=11)
    canvas.text(190, 225, "one pass per image", size=11)
    canvas.text(355, 205, "argmax chooses the route", size=11)
    return canvas


def merged() -> Canvas:
    """Shared stages, a branch of categories and a branch of labels, adapted to each other."""
    canvas = Canvas(760, 250, "Merged networks: shared stages, two branches, adaptation")
    canvas.box(15, 95, 70, 60, "image")
    canvas.arrow((85, 125), (104, 125))
    canvas.box(105, 85, 150, 80, "stem and\nstages 1 to m\nshared", fill="shared")
    for y, level, letter in ((25, "categories", "c"), (165, "labels", "f")):
        canvas.arrow((255, 125), (285, 125), (285, y + 30), (309, y + 30))
        canvas.box(310, y, 150, 60, f"stages m + 1 to 3\nbranch of {level}", fill="own")
        canvas.arrow((460, y + 30), (489, y + 30))
        canvas.box(490, y, 110, 60, f"softmax\nP_{letter}", fill="output")
    canvas.arrow((600, 55), (675, 55), (675, 94))
    canvas.arrow((600, 195), (675, 195), (675, 156))
    canvas.box(610, 95, 130, 60, "adaptation, alpha\n(no training)", fill="plain")
    canvas.text(545, 118, "P_c(i) against the", size=11)
    canvas.text(545, 134, "sum of its labels", size=11)
    canvas.text(385, 130, "loss = sum of both", size=11)
    return canvas


def dhnn() -> Canvas:
    """Stages of a CNN feed the steps of an RNN, each of which predicts a node."""
    canvas = Canvas(760, 300, "DHNN: stages of a CNN feed the steps of an RNN")
    canvas.box(15, 30, 70, 50, "image")
    for number in range(3):
        x = 120 + 150 * number
        canvas.arrow((x - 35 if number == 0 else x - 50, 55), (x - 1, 55))
        canvas.box(x, 25, 100, 60, f"stage {number + 1}", fill="shared")
    for step, x in ((1, 270), (2, 420)):
        canvas.arrow((x + 50, 85), (x + 50, 109))
        canvas.box(x, 110, 100, 40, f"convert: u_{step}", fill="plain")
        canvas.arrow((x + 50, 150), (x + 50, 174))
        canvas.box(x, 175, 100, 45, f"RNN step {step}", fill="own")
        canvas.arrow((x + 50, 220), (x + 50, 244))
        canvas.box(x - 10, 245, 120, 40, f"logits of nodes {step}", fill="output")
    canvas.arrow((370, 191), (419, 191))
    canvas.arrow((420, 206), (371, 206))
    canvas.text(600, 200, "coarse step, then fine step")
    canvas.text(600, 218, "both directions", size=11)
    canvas.text(635, 270, "path = product along the tree")
    canvas.text(660, 60, "layers: alt, two steps", size=11)
    return canvas


def hiernet() -> Canvas:
    """Shared blocks, a group head with blocks of its own, a branch per group."""
    canvas = Canvas(760, 300, "HierNet: a group head and a branch per group, one loss")
    canvas.box(15, 125, 70, 50, "image")
    canvas.arrow((85, 150), (104, 150))
    canvas.box(105, 110, 130, 80, "stem and\nblocks 1 to b\nshared", fill="shared")
    canvas.arrow((235, 150), (265, 150), (265, 50), (289, 50))
    canvas.box(290, 20, 180, 60, "added blocks, then\nthe group head", fill="own")
    canvas.arrow((470, 50), (519, 50))
    canvas.box(520, 25, 60, 50, "q", fill="output")
    for number in range(2):
        y = 120 + 90 * number
        canvas.arrow((235, 150), (265, 150), (265, y + 30), (289, y + 30))
        canvas.box(
            290, y, 180, 60, f"blocks b + 1 to the last\nbranch of group {number}", fill="own"
        )
        canvas.arrow((470, y + 30), (519, y + 30))
        canvas.box(520, y + 5, 60, 50, f"r_{number}", fill="output")
        canvas.arrow(
            (580, y + 30), (612, y + 30), (612, 150 + 10 * number), (629, 150 + 10 * number)
        )
    canvas.arrow((580, 50), (612, 50), (612, 140), (629, 140))
    canvas.box(630, 115, 115, 70, "P(label) =\nq · r", fill="output")
    canvas.text(687, 215, "one cross-entropy", size=11)
    canvas.text(687, 231, "on this product", size=11)
    return canvas


def hdcnn() -> Canvas:
    """A coarse component weights the fine components of overlapping label sets."""
    canvas = Canvas(760, 320, "HD-CNN: fine components averaged by a coarse component")
    canvas.box(15, 130, 70, 50, "image")
    canvas.arrow((85, 155), (104, 155))
    canvas.box(105, 120, 120, 70, "shared\nlayers", fill="shared")
    canvas.arrow((225, 155), (255, 155), (255, 45), (279, 45))
    canvas.box(280, 15, 150, 60, "coarse component\nall N labels", fill="own")
    canvas.arrow((430, 45), (469, 45))
    canvas.box(470, 15, 110, 60, "sums over sets\nB_1 … B_K", fill="output")
    for number, labels in enumerate(("0 1 2", "2 3 4", "5")):
        y = 95 + 75 * number
        canvas.arrow((225, 155), (255, 155), (255, y + 27), (279, y + 27))
        canvas.box(280, y, 150, 55, f"fine component {number + 1}\nlabels {labels}", fill="own")
        canvas.arrow((430, y + 27), (469, y + 27))
        canvas.box(470, y + 4, 110, 46, f"p_{number + 1}", fill="output")
        canvas.arrow((580, y + 27), (610, y + 27), (610, 170 + 8 * number), (634, 170 + 8 * number))
    canvas.arrow((580, 45), (690, 45), (690, 144))
    canvas.box(635, 145, 110, 60, "average of p_k\nby B_k", fill="output")
    canvas.text(690, 228, "label 2 is in two sets", size=11)
    return canvas


def recover() -> Canvas:
    """A trunk with an early exit, and a tail for each set of labels."""
    canvas = Canvas(760, 300, "Recover: an early exit over all labels, tails over sets of labels")
    canvas.box(15, 110, 70, 50, "image")
    canvas.arrow((85, 135), (104, 135))
    canvas.box(105, 100, 120, 70, "trunk", fill="shared")
    canvas.arrow((225, 135), (255, 135), (255, 45), (279, 45))
    canvas.box(280, 15, 150, 60, "exit\nall N labels", fill="own")
    canvas.arrow((430, 45), (634, 45))
    canvas.text(530, 35, "max p0 at least theta", size=11)
    canvas.box(635, 15, 110, 60, "p = p0", fill="output")
    for number, labels in enumerate(("0 1 2", "2 3 4", "4 5")):
        y = 95 + 65 * number
        canvas.arrow((225, 135), (255, 135), (255, y + 25), (279, y + 25))
        canvas.box(280, y, 150, 50, f"tail {number + 1}\nlabels {labels}", fill="own")
        canvas.arrow((430, y + 25), (470, y + 25), (470, 175 + 8 * number), (634, 175 + 8 * number))
    canvas.box(635, 150, 110, 60, "p0 and q_g\nmixed by a", fill="output")
    canvas.text(555, 150, "one tail for each image", size=11)
    return canvas


def grouping() -> Canvas:
    """The worked confusion matrix with the selected clusters as blocks on its diagonal."""
    canvas = Canvas(760, 330, "Six labels: confusions, and the clusters that modularity finds")
    size, left, top = 42, 70, 50
    for i, row in enumerate(M6):
        for j, value in enumerate(row):
            shade = round(255 - 190 * min(1.0, value**0.5))
            canvas.box(
                left + size * j,
                top + size * i,
                size,
                size,
                fill=f"rgb({shade},{shade + (255 - shade) // 3},255)",
            )
            colour = "#ffffff" if value > 0.5 else INK
            canvas.text(
                left + size * (j + 0.5),
                top + size * (i + 0.6),
                f"{value:.2f}"[1:],
                size=12,
                colour=colour,
            )
        canvas.text(left - 16, top + size * (i + 0.6), str(i))
        canvas.text(left + size * (i + 0.5), top - 10, str(i))
    for first, count in ((0, 3), (3, 2), (5, 1)):
        x, y, side = left + size * first, top + size * first, size * count
        corners = ((x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y))
        canvas.line(*corners, colour="#c2410c", width=3)
    canvas.text(left + 126, top - 30, "predicted label")
    canvas.text(20, top + 126, "true")
    canvas.arrow((340, 176), (409, 176))
    canvas.box(410, 150, 60, 52, "root", fill="own")
    for y, name in ((60, "0 1 2"), (150, "3 4"), (240, "5")):
        canvas.arrow((470, 176), (500, 176), (500, y + 26), (529, y + 26))
        canvas.box(530, y, 120, 52, f"cluster {name}", fill="shared")
    return canvas


def training() -> Canvas:
    """The learning rate over a training under each recipe, relative to its largest value."""
    canvas = Canvas(
        760, 270, "Learning rate over a training, relative to the largest, for each recipe"
    )
    left, top, width, height = 70, 30, 520, 190
    canvas.line((left, top), (left, top + height), (left + width, top + height))
    steps = [step / 500 for step in range(501)]
    curves = {
        "fast: warm-up, then a cosine to 0": ("#1d4ed8", [_fast(share) for share in steps]),
        "step: divided by 10 at each cut": ("#c2410c", [_step(share) for share in steps]),
        "report: halved at each plateau": ("#15803d", [_report(share) for share in steps]),
    }
    for number, (name, (colour, values)) in enumerate(curves.items()):
        points = [
            (left + width * share, top + height * (1 - value))
            for share, value in zip(steps, values, strict=True)
        ]
        canvas.line(*points, colour=colour, width=2.2)
        canvas.text(450, 50 + 18 * number, name, anchor="start", colour=colour)
    canvas.text(left + width / 2, 250, "share of the training")
    canvas.text(40, top + 8, "1")
    canvas.text(40, top + height, "0")
    return canvas


def _fast(share: float) -> float:
    return share / 0.25 if share < 0.25 else (1 + cos(pi * (share - 0.25) / 0.75)) / 2


def _step(share: float) -> float:
    return 1.0 if share < 0.41026 else 0.1 if share < 0.61538 else 0.01


def _report(share: float) -> float:
    return 0.5 ** sum(share >= cut for cut in (0.45, 0.7, 0.85))


def data() -> Canvas:
    """Duplicates are joined in groups, and a group goes to one split as a whole."""
    canvas = Canvas(760, 250, "A group of near duplicates goes to one split as a whole")
    groups = (
        ("a b c", "train"),
        ("d", "train"),
        ("e f", "validation"),
        ("g", "test"),
        ("h i", "test"),
    )
    canvas.text(90, 30, "images by hash")
    canvas.text(330, 30, "groups of duplicates")
    canvas.text(620, 30, "splits")
    for number, (members, split) in enumerate(groups):
        y = 45 + 38 * number
        for index, member in enumerate(members.split()):
            canvas.box(20 + 46 * index, y, 40, 28, member)
        canvas.arrow((165, y + 14), (249, y + 14))
        canvas.box(
            250, y, 160, 28, f"group {number + 1}, keeps {members.split()[0]}", fill="shared"
        )
        target = {"train": 75, "validation": 135, "test": 195}[split]
        canvas.arrow((410, y + 14), (549, target))
    for name, y in (("train", 75), ("validation", 135), ("test", 195)):
        canvas.box(550, y - 20, 140, 40, name, fill="output")
    return canvas


def evaluation() -> Canvas:
    """A hierarchy beside its controls, and what each comparison rules out."""
    canvas = Canvas(760, 330, "A hierarchy and its controls")
    canvas.box(20, 130, 130, 70, "hierarchy\nRUN", fill="own")
    rows = (
        ("flat", "starting point"),
        ("RUN_train_flops", "flat, trained as long: gain from more training"),
        ("RUN_macs", "flat, as wide: gain from more computing"),
        ("RUN_params", "flat, as large: gain from capacity"),
        ("RUN_ensemble", "several flat networks: gain from averaging"),
        ("METHOD_random", "labels drawn into groups: gain from any branching"),
    )
    for number, (name, text) in enumerate(rows):
        y = 20 + 50 * number
        canvas.arrow((150, 165), (200, 165), (200, y + 20), (239, y + 20))
        canvas.box(240, y, 160, 40, name, fill="shared")
        canvas.text(415, y + 24, text, anchor="start")
    return canvas


def drawings() -> dict[str, str]:
    """Returns each drawing by the name of its file."""
    drawn = (
        flat,
        uppsala,
        merged,
        dhnn,
        hiernet,
        hdcnn,
        recover,
        grouping,
        training,
        data,
        evaluation,
    )
    return {f"{drawing.__name__}.svg": drawing().render() for drawing in drawn}
