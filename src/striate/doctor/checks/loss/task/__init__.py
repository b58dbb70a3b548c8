"""Does the loss fit the task and its targets?"""
