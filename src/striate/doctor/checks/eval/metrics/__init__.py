"""Do the metrics that a script computes itself say what they are called?"""
