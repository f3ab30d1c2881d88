"""Builds of a data set at a URL: copied there and back, and read from there through a bounded cache."""
