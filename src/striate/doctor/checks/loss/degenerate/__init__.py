"""Can the loss be small without right predictions?"""
