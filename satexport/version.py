"""The version: of this package, of the bundles that it writes, of the wheel."""

__version__ = "0.1.0"
