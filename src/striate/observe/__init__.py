"""Trace what runs in a network; hooks are removed in the end, also after an exception.

`module_calls` records calls of modules, `torch_functions` and `torch_operations` intercept what torch computes above
and below autograd, `gradients_of` records gradients, and `layer_calls` records each layer, also those that are
functions. All are context managers and can be nested. `interventions` change a network, for trials on copies.
"""
