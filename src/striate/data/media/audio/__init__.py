"""Sound as a medium: files, the log-mel spectrogram, and how both become inputs."""
