"""Audio input: files, labelled recordings, synthetic sounds."""
