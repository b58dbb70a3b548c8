"""The one tracer: watch what runs in a network, and put everything back, also when it raises.

`module_calls` records calls of modules, `torch_functions` and `torch_operations` see what torch computes above and
below autograd, `gradients_of` sees gradients, `layer_calls` tells of each layer, also of those that are functions.
All are context managers and can be nested. `interventions` change a network instead, for trials on copies.
"""
