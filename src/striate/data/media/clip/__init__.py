"""Clips as a medium: films, folders of frames, optical flow, and how they become inputs."""
