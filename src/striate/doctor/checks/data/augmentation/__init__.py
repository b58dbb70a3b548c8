"""What does augmentation leave of the inputs?"""
