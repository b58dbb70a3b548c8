"""Confidence intervals, significance tests and calibration, as functions of numbers."""
