"""Boltzmann machines: their learning rule, and the likelihood of images."""
