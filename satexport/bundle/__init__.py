"""Bundles, the folders that go to a device; imports only numpy."""
