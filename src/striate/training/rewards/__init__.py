"""Learning from rewards: a loop of its own, since there are no samples to go through."""
