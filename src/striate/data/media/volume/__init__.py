"""Volumes: files of medical and scientific images in three dimensions."""
