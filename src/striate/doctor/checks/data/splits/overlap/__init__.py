"""Does the script divide its data into disjoint training and validation?"""
