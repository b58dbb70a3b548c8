"""How good a network is: metrics with intervals, on named data and a stated number of samples."""
