"""Pictures of data, training and answers, each drawn into a matplotlib Figure without any global state."""
