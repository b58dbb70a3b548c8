"""The same training on ever larger parts of the training samples: what more labels would gain."""
