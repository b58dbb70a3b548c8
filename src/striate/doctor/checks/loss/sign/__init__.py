"""Is what is right cheap?"""
