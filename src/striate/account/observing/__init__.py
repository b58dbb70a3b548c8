"""A forward pass, watched: who did what, and what it cost."""
