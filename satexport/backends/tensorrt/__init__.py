"""TensorRT on a Jetson, and TensorRT for RTX."""
