"""Learning from rewards, with its own loop, since there is no data set to pass over."""
