"""A runtime that satexport does not have: the reference evaluator of ONNX."""
