"""Layouts of boxes: one file a layout, from a tree to a listing."""
