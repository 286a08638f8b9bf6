"""Web bundles, in real headless Chromium."""
