"""Is the saved epoch the best one?"""
