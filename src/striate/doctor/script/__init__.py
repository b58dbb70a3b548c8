"""Runs a user's script until its first optimizer step, diagnoses what it trains, and lets it continue for a while."""
