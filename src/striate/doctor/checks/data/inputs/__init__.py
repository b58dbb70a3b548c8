"""Are inputs such that a network can learn from them?"""
