"""Can a network learn from the inputs?"""
