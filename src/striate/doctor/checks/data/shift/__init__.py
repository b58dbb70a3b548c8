"""Is validation preprocessed like training?"""
