"""Does the loss count what it should, with the weights it should?"""
