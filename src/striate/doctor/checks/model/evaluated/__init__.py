"""Whether what is evaluated is what is trained: copies, averages of the weights, other networks."""
