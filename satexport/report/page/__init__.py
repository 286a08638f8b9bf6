"""Stored reports as one HTML page that needs no network: `satexport report PATH... -o FILE.html`."""
