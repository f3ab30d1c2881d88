"""One sentence on each method, and where it was published."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MethodText:
    """What a method does, in one sentence; `paper` and `address` are empty where there is none."""

    sentence: str
    paper: str = ""
    address: str = ""


METHODS = {
    "flat": MethodText("One CNN with one softmax over all labels: the baseline."),
    "uppsala": MethodText(
        "A tree of CNNs: the root predicts a cluster of labels, and a subnetwork for each cluster "
        "predicts the label.",
        "Colin and Nagarajan, project report, Uppsala University, 2018",
    ),
    "merged": MethodText(
        "One CNN with a head for groups and a head for labels; the groups adapt the probabilities of "
        "the labels.",
        "Dutt, Pellerin and Quénot 2017",
        "https://doi.org/10.1145/3095713.3095745",
    ),
    "dhnn": MethodText(
        "A CNN whose maps feed a recurrent network, which predicts the path from group to label.",
        "Koo, Klabjan and Utke 2018",
        "https://arxiv.org/abs/1809.09574",
    ),
    "hiernet": MethodText(
        "One CNN that branches: a head predicts the group, and a branch for each group predicts the "
        "label; trained together.",
        "Tempfli and Sándor 2024",
        "https://doi.org/10.5220/0012321100003636",
    ),
    "hdcnn": MethodText(
        "Shared layers, a component over groups, and a component for each group, whose predictions "
        "are averaged by the probability of the group.",
        "Yan and others 2015",
        "https://arxiv.org/abs/1410.0736",
    ),
    "recover": MethodText(
        "An early exit over all labels, and tails over sets of labels that are easily confused; ours."
    ),
}
"""Methods without an entry, such as those of users, stand on the page by their name alone."""
