"""What a unit can see of the input, and what it really looks at.

Read in this order: `intervals` (what is seen, and what joins, cuts and windows make of it), `window` (how an operation
slides over a map), `reshaped`, `noted`, the three `rules_of_…` (one rule for each operation of torch), `follow` (which
applies them to a pass), `effective` (the measurement).
"""
