"""Verifies a run: whether its files are intact, and whether its steps give the same bits when they are repeated."""
