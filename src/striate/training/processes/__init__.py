"""Training in several processes: who does what, and what they tell one another."""
