"""A network at work on one image: the maps of every layer, and how each single number in them is computed.

Read in this order: `unit_records` (the records for the page), `pass_recorder` (one forward pass, with the tensors of
every operation), `step` (its layers), `unit_arithmetic` (which arithmetic belongs to which operation), the other
`…_arithmetic` files.
"""
