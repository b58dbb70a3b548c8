"""Training scripts as people write them who are new to it: each with one bug, and without."""
