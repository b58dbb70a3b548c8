"""How good a trained network is, in all its parts: evaluation.json of a run."""
