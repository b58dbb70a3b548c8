"""Robustness of predictions against changes of images: movement, occlusion, deformation, light, noise and
compression."""
