"""The run directory and the checkpoint file: the only place that reads and writes them."""
