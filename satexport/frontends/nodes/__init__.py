"""Front ends as ONNX nodes, one module for each kind."""
