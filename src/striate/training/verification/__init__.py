"""Whether a run is what it says: its files whole, and its steps the same bits when they are done again."""
