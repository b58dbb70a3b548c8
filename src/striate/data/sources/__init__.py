"""Layouts of data: one file for each, from a source to a `Listing`."""
