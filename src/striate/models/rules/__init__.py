"""Learning rules that need no gradient: one a file, each a function that changes the units in place."""
