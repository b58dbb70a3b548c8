"""Are training and validation disjoint?"""
