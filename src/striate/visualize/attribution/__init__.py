"""Explanations of one prediction: attribution maps, and how far each can be trusted."""
