"""What a unit can see of the input, and what it really looks at."""
