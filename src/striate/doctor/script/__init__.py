"""A user's script, run until its first optimizer step and on from there, and what it trains, caught from outside."""
