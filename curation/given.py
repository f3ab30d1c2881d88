"""
The validation part that is taken from one side of a given split: exactly so many of each label.

Pure: ids, groups and labels come in, ids go out. Near duplicates stay together, so a group is taken
whole or not at all.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping

from curation.errors import TooFewSamples


def validation(
    group_of: Mapping[int, int], label_of: Mapping[int, str], *, per_label: int, seed: int
) -> set[int]:
    """
    Returns `per_label` posts of each label, in whole groups, none of a label more.

    Groups come in the order of sha256 of `seed:val:group_id`; one that has more posts of a label
    than the label still lacks is passed over. Neither the order of the posts nor a post on another
    side changes what is taken.

    Args:
        group_of: Duplicate group of each post that may be taken.
        label_of: Label of each post; every label is to have its number.
        per_label: Posts wanted of each label.
        seed: Another seed takes other groups.

    Raises:
        TooFewSamples: A label has not so many, or only in groups that do not fit.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for post in sorted(group_of):
        members[group_of[post]].append(post)
    lacking = dict.fromkeys(sorted(set(label_of.values())), per_label)
    taken: set[int] = set()
    for group in sorted(members, key=lambda group: (_place(group, seed), group)):
        counts = Counter(label_of[post] for post in members[group])
        if all(count <= lacking[label] for label, count in counts.items()):
            taken.update(members[group])
            for label, count in counts.items():
                lacking[label] -= count
    short = next((label for label, missing in lacking.items() if missing), None)
    if short is not None:
        raise TooFewSamples(
            f"Label '{short}' gives {per_label - lacking[short]} of the {per_label} images that "
            "`split.val_per_label` takes from the side `split.val_from`, near duplicates staying "
            "together. Lower it, or leave the label out with `persona.min_samples`."
        )
    return taken


def _place(group_id: int, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:val:{group_id}".encode()).digest()
