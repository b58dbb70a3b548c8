"""Pictures of data, training and predictions, each drawn into a matplotlib Figure without any global state."""
