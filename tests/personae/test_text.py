"""Tests the text tables."""

import io

from personae.text import print_table


def test_columns_are_aligned_and_numbers_stand_right():
    """Words are aligned left and numbers right, below a rule; no cell is truncated in a pipe."""
    out = io.StringIO()
    print_table(out, ["run", "%"], [["flat", "9.5"], ["uppsala" * 30, "10.25"]], numbers={1})
    head, rule, *lines = out.getvalue().splitlines()

    assert set("─") == set(rule)
    assert ["run".ljust(212) + "    %", "flat".ljust(212) + "  9.5"] == [head, lines[0]]
    assert ["uppsala" * 30 + "  10.25"] == lines[1:]


def test_cells_are_no_markup():
    """Markup in a tag is printed unchanged, without colour or style."""
    out = io.StringIO()
    print_table(out, ["tag"], [["[red]x[/red]"], [":smile:"]])

    assert ["[red]x[/red]", ":smile:"] == [line.strip() for line in out.getvalue().splitlines()[2:]]
