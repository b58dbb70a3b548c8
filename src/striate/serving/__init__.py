"""Trained networks over HTTP: pictures in, predictions out; requests that come together are computed together."""
