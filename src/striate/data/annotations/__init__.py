"""Kinds of annotation: one file for each."""
