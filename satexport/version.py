"""The version of this package and of its wheel, which bundles record."""

__version__ = "0.1.0"
