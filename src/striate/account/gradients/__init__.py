"""Are the gradients right? Compared with measured slopes."""
