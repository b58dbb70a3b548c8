"""Does the loss pull matching pairs together?"""
