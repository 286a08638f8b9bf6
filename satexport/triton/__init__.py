"""Model repositories for NVIDIA's Triton Inference Server, which keeps the state of many microphones."""
