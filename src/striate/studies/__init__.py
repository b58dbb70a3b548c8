"""Many trainings as one study."""
