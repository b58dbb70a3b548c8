"""Do targets move with their inputs?"""
