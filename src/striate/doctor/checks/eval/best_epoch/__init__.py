"""Is the epoch that is kept the best one?"""
