"""How strong signal and gradient are in each layer."""
