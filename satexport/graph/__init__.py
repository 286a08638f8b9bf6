"""ONNX graphs of any model family: write, edit, simplify, count operations."""
