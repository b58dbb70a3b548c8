"""Is the schedule of the learning rate as long as the training, and stepped as often as its lengths assume?"""
