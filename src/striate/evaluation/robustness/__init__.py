"""How predictions hold when images are moved, covered, bent, lit and damaged."""
