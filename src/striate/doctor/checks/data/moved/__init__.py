"""Does augmentation move targets with their inputs?"""
