"""The observation of a forward pass: which layer runs which operations, and what they cost."""
