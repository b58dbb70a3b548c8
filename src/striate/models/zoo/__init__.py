"""The zoo: one file a family, listed in `models/registry.py`."""
