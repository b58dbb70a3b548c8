"""Trained networks behind HTTP: pictures in, predictions out, many requests computed together."""
