"""Findings about a data set: one file for each kind.

`quick.py` runs the checks before every training, `check.py` those of `striate data check`.
"""
