"""Does the loss compute what the task and its targets call for?"""
