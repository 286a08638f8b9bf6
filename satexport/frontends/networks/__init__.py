"""Front ends as PyTorch modules, for the references."""
