"""Receptive fields: the input positions that a unit can depend on, and those that dominate its gradient.

Read in this order: `intervals` (receptive fields as intervals, and how joins, slices and windows change them), `window`
(how an operation slides over a map), `rules_of_shapes` and `rules_of_windows` (one rule for each operation of torch),
`follow` (which applies the rules to a forward pass), `effective` (the measurement by gradients).
"""
