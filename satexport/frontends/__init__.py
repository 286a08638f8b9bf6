"""Waveform to features: as numbers, as ONNX nodes."""
