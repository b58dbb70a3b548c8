"""What is wrong, odd or worth knowing about a data set: one kind of finding a file.

`quick.py` holds what is noticed before every training, `check.py` all that `striate data check` looks for.
"""
