"""Remarks on a network: what a good teacher would point out."""
