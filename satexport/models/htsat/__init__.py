"""HTS-AT: hierarchical token-semantic audio transformers (Swin)."""
