"""Training in several processes: how the work is divided, and what the processes exchange."""
