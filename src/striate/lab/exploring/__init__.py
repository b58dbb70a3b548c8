"""The page Explore: the data of a run, and what its network makes of them."""
