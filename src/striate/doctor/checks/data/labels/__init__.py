"""Are the labels right and enough, and do they belong to their inputs?"""
