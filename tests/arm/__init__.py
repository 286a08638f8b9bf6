"""Bundles on ARM without a board: `make test-arm` runs them under emulation (docs/arm.md).

`device` downloads what a device has, `emulation` runs satexport on it, `__main__` makes the bundles, compares
and reports.
"""
