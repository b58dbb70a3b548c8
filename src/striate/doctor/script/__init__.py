"""A user's script, run until its first optimizer step, and what it trains, caught from outside."""
