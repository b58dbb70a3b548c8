"""The run directory and the checkpoint file: the one place that reads and writes them."""
