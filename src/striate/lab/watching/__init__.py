"""A network at work on one image: every layer's maps, and how each single number in them comes about.

Read in this order: `records` (what is told), `kept_tensors` and `passing` (one forward pass, of which everything is
kept as it was), `step` (its layers), `unit` (which arithmetic belongs to which operation), the `…_arithmetic` files.
"""
