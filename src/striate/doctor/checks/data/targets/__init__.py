"""Can the network reach the scale of the targets, and do inputs not contain them?"""
