"""The page Explore: the data of a run, and what its network predicts for them."""
