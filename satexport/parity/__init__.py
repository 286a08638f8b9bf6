"""Compare the scores of two steps."""
