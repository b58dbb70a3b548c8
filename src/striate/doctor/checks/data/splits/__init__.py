"""Are training and validation apart?"""
