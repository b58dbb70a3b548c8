"""Boltzmann machines: how they learn, and how likely they find images."""
