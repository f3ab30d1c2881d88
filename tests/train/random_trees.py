"""Trees for the path tests: the example of the DHNN slides, and random trees."""

import random

from hypothesis import strategies as st

from train.tree import hierarchy

SLIDES = [[0, 1], [2, 3, 4]]  # A: children C, D; B: children E, F, G; outputs 0 to 6 are A to G


@st.composite
def trees(draw, *, most=7):
    """Draws a tree over 2 to `most` leaves; nodes may have a single child, leaves any depth."""
    leaves = draw(st.permutations(range(draw(st.integers(2, most)))))

    def below(some, depth):
        if len(some) == 1 and (depth > 2 or draw(st.booleans())):
            return [some[0]]
        parts, rest = [], list(some)
        while rest:
            size = draw(st.integers(1, len(rest)))
            own, rest = rest[:size], rest[size:]
            plain = depth > 2 or draw(st.booleans())
            parts += own if plain else [below(own, depth + 1)]
        return parts

    nested = below(leaves, 0)
    # beartype uses the global random state to choose the items it checks. Hypothesis rejects
    # strategies that change this state.
    state = random.getstate()
    try:
        return hierarchy.from_nested(nested, len(leaves))
    finally:
        random.setstate(state)
