"""A second, tiny family: it proves that a family is one folder and one line."""
