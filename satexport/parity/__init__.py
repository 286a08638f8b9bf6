"""How far the scores of two steps are apart."""
