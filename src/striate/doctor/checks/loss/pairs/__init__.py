"""Does the loss pull together what belongs together?"""
