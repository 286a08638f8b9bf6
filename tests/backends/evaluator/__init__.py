"""A backend that is not part of satexport: the reference evaluator of ONNX."""
