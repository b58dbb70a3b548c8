"""Are training and validation disjoint by how a script divides its data?"""
