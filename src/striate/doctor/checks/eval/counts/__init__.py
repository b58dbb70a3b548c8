"""Is a metric of all samples divided by their number?"""
