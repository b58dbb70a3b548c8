"""Trainings of striate's own as patients: prepared ones, and what finished ones left behind."""
