"""Weights of files: read, recognized, given to a network, heads replaced."""
