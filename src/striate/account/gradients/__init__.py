"""Gradient checks: gradients compared with central differences."""
