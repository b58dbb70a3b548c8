"""Can the loss be small without any right prediction?"""
