"""Does evaluation use the trained network? Copies, averages of the weights, other networks."""
