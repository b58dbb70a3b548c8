"""Is validation prepared as training is?"""
