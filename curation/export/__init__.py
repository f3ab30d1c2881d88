"""Exports of a build, or of a selection of it, in the formats of other programs."""
