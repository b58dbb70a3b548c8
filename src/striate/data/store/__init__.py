"""Inputs that are not in memory: packed into a file, or decoded whenever they are read."""
