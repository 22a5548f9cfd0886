"""The doorway: the `omrl` command line."""

__version__ = "0.1.0"
