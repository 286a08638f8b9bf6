"""Front ends, from waveform to features: computed with numpy, or as ONNX nodes."""
