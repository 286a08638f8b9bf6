"""ONNX graphs, whichever family wrote them."""
