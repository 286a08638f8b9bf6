"""The stages in a row: export, build, prove; and what a board does."""
