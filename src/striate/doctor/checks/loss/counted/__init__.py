"""Does the loss count the right samples and positions, with the right weights?"""
