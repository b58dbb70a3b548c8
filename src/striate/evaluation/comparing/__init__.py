"""Trained networks beside each other: is a difference on the same samples more than noise, and what does each cost."""
