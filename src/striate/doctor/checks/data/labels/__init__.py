"""Are the labels right, in number, and those of their inputs?"""
