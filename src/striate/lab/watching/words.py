"""What a layer computes, in a sentence."""

from __future__ import annotations

import inspect

from torch import nn

_WORDS = {
    "conv": "Each number is a kernel laid on the input: products summed over all channels, with a bias or none.",
    "local": "Like a convolution, but with a kernel of its own at every place.",
    "fc": "Each output is the sum of all inputs, each times a weight of its own, with a bias or none.",
    "pool": "The largest number in each window, map by map.",
    "avgpool": "The mean of the numbers in each window, map by map.",
    "gap": "The mean of each whole map: one number a map.",
    "l2pool": "The root of the sum of squares in each window, map by map.",
    "chpool": "The root of the sum of squares over neighboring maps, at each place.",
    "maxout": "The largest of several neighboring maps, at each place.",
    "lrn": "Each number divided by a measure of how active neighboring maps are at the same place.",
    "lcn": "The mean of the neighborhood is subtracted, and what is left divided by its spread.",
    "bn": "Each map is shifted and scaled by the mean and spread that it had in training.",
    "gn": "Groups of maps are shifted and scaled to mean 0 and variance 1 in this image, then by learned numbers.",
    "ln": "All numbers are shifted and scaled to mean 0 and variance 1 in this image, then by learned numbers.",
    "relu": "Negative numbers become 0, all others stay as they are.",
    "leaky": "Negative numbers are made small, all others stay as they are.",
    "prelu": "Negative numbers are multiplied by a learned slope, all others stay as they are.",
    "elu": "Negative numbers are bent toward a limit, all others stay as they are.",
    "sigmoid": "Each number is squeezed between 0 and 1.",
    "tanh": "Each number is squeezed between −1 and 1.",
    "swish": "Each number times its own sigmoid.",
    "softmax": "Exponentials, divided by their sum: shares that add up to 1.",
    "dropout": "Does nothing when the network answers; in training it sets some numbers to 0, by chance.",
    "flatten": "The maps are written one after the other, as one row of numbers.",
    "up": "Each map is made larger.",
    "add": "The numbers at the same place are added: the sum of a residual connection.",
    "cat": "The maps of several layers, one behind the other.",
    "mul": "The numbers at the same place are multiplied.",
    "sub": "The numbers at the same place are subtracted.",
    "div": "The numbers at the same place are divided.",
    "mean": "The mean along some axes.",
    "sum": "The sum along some axes.",
    "matmul": "A matrix product.",
    "bmm": "A matrix product.",
    "mm": "A matrix product.",
    "adaptive_avg_pool2d": "The mean of each window; as many windows as the output has places.",
    "AdaptiveAvgPool2d": "The mean of each window; as many windows as the output has places.",
    "ConvTranspose2d": "Each input number lays down a kernel, multiplied by it; where they overlap, they are added.",
    "conv_transpose2d": "Each input number lays down a kernel, multiplied by it; where they overlap, they are added.",
    "ZeroPad2d": "A border of zeros is put around each map.",
    "Identity": "Hands on what it gets.",
}


def step_words(kind: str, module: nn.Module | None) -> str:
    """What a step of this kind computes; of a layer of striate's or one's own, what its docstring says first."""
    if kind in _WORDS:
        return _WORDS[kind]
    if module is not None and not type(module).__module__.startswith("torch."):
        first = (inspect.getdoc(type(module)) or "").partition("\n\n")[0]
        if first and type(module).__doc__ != nn.Module.__doc__:
            return " ".join(first.split())[:300]
    called = f"torch's {type(module).__name__}" if module is not None else f"torch's operation {kind}"
    return f"What {called} computes; its maps are shown, its arithmetic is not taken apart here."
