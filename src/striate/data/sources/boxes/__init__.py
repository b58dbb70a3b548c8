"""Layouts of boxes: one file for each, from a tree to a listing."""
