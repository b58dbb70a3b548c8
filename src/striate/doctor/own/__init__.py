"""Trainings of striate's own as setups: prepared ones, and what finished ones left behind."""
