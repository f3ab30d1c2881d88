"""
Splits that the source gives: validation posts taken from one of them, and labels that one lacks.

Validation has the same number of each label, in whole groups: near duplicates stay together. The
functions read no file.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping

from curation.errors import TooFewSamples

log = logging.getLogger(__name__)

_NAMED = 5  # labels that the warning names


def validation(
    group_of: Mapping[int, int], label_of: Mapping[int, str], *, per_label: int, seed: int
) -> set[int]:
    """
    Returns `per_label` posts of each label, in whole groups.

    Groups are taken in the order of sha256 of `seed:val:group_id`. A group with more posts of a label
    than the label still needs is left out. Neither the order of the posts nor posts of other splits
    change the result.

    Args:
        group_of: Duplicate group of each post that may be taken.
        label_of: Label of each post.
        per_label: Number of posts of each label.
        seed: Seed of the order of the groups.

    Raises:
        TooFewSamples: A label has fewer posts, or has them only in groups that do not fit.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for post in sorted(group_of):
        members[group_of[post]].append(post)
    needed = dict.fromkeys(sorted(set(label_of.values())), per_label)
    taken: set[int] = set()
    for group in sorted(members, key=lambda group: (_position(group, seed), group)):
        counts = Counter(label_of[post] for post in members[group])
        if all(count <= needed[label] for label, count in counts.items()):
            taken.update(members[group])
            for label, count in counts.items():
                needed[label] -= count
    short = next((label for label, missing in needed.items() if missing), None)
    if short is not None:
        raise TooFewSamples(
            f"Label '{short}' gives {per_label - needed[short]} of the {per_label} images that "
            "`split.val_per_label` takes from the split `split.val_from`; near duplicates stay "
            "together. Lower `split.val_per_label`, or raise `persona.min_samples` to leave the "
            "label out."
        )
    return taken


def warn_of_absent(shares: Mapping[str, Mapping[str, float]]) -> None:
    """Logs which labels a split has no image of, by the shares of each label in the splits."""
    absent = [
        f"'{label}' in {split}"
        for label, of_label in shares.items()
        for split, share in of_label.items()
        if not share
    ]
    if absent:
        log.warning(
            "split: the given splits have no image of %s%s. Training and evaluation need every label in "
            "train, val and test: add images to the source, or leave the labels out of it.",
            ", ".join(absent[:_NAMED]),
            f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else "",
        )


def _position(group_id: int, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:val:{group_id}".encode()).digest()
