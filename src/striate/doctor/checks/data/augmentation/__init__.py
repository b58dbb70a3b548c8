"""Do augmented inputs still show what their targets say?"""
