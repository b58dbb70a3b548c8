"""The largest value that scores computed from cosines can have, by the step's call graph."""

from __future__ import annotations

import math
from collections.abc import Callable

from striate.doctor.evidence.call_graph import INPUT, QUOTIENTS, SAME_NUMBERS, SUMS, TIMES, Call, CallGraph

_PRODUCTS = frozenset(["linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "einsum", "inner"])
_LARGEST = frozenset(["cat", "concat", "concatenate", "stack", "where"])
_NO_LARGER = frozenset(
    ["masked_fill", "fill_diagonal", "clamp", "clip", "neg", "__neg__", "triu", "tril", "__setitem__", "index_select"]
)
_ONE = frozenset(["cosine_similarity", "cos", "sin", "tanh", "one_hot", "scatter"])
_NORMS = frozenset(["norm", "vector_norm", "linalg_norm", "linalg_vector_norm", "sqrt", "rsqrt"])
_LONGEST = 40


def largest_cosines(graph: CallGraph, index: int) -> tuple[float, Call] | None:
    """The largest absolute value that a call's output can have, and the product that computes the cosines; None where
    the output is not computed from cosines alone, or is multiplied by a parameter."""
    products: list[Call] = []
    largest = _largest(graph, index, products, _LONGEST)
    return (largest, products[0]) if products and math.isfinite(largest) else None


def _largest(graph: CallGraph, index: int, products: list[Call], depth: int) -> float:
    """The largest absolute value of a call's output, infinity if unbounded; products of cosines go into `products`."""
    if index == INPUT or not depth:
        return math.inf
    call = graph.calls[index]

    def of(place: int) -> float:
        return _largest(graph, call.inputs[place], products, depth - 1) if place < len(call.inputs) else math.inf

    if call.name in _PRODUCTS:
        both = len(call.inputs) == 2 or (len(call.inputs) == 1 and len(set(call.input_shapes)) == 1)
        if call.parameters or not both or not all(_is_normalized(graph, given) for given in call.inputs):
            return math.inf
        products.append(call)
        return 1.0
    if call.name in _ONE:
        products += [call] * (call.name == "cosine_similarity")
        return 1.0
    if call.name in SAME_NUMBERS or call.name in _NO_LARGER:
        return of(0)
    if call.name in _LARGEST:
        return max((of(place) for place in range(call.name == "where", len(call.inputs))), default=math.inf)
    if call.name in TIMES | QUOTIENTS | SUMS:
        return _combined(call, of)
    return math.inf


def _combined(call: Call, of: Callable[[int], float]) -> float:
    """The bound of a sum, product or quotient of a tensor with a number or another tensor."""
    numbers = [abs(value) for value in call.options.values() if isinstance(value, int | float)]
    if len(call.input_shapes) == 1 and len(numbers) == 1:
        number = numbers[0]
        if call.name in QUOTIENTS:
            return of(0) / number if number else math.inf
        return of(0) * number if call.name in TIMES else of(0) + number
    if len(call.inputs) == len(call.input_shapes) == 2 and call.name not in QUOTIENTS:
        return of(0) * of(1) if call.name in TIMES else of(0) + of(1)
    return math.inf


def _is_normalized(graph: CallGraph, index: int) -> bool:
    """Whether a call's rows have length 1: they are normalized, or divided by their norm."""
    call = graph.origin(index)
    while call is not None and call.name in SAME_NUMBERS and call.inputs:  # of data that come from no loader
        index = call.inputs[0]
        call = graph.calls[index] if index != INPUT else None
    if call is None or call.name == "normalize":
        return call is not None
    if call.name in _LARGEST:
        return bool(call.inputs) and all(_is_normalized(graph, given) for given in call.inputs)
    if call.name not in QUOTIENTS or len(call.inputs) != 2:
        return False
    below = graph.calls[call.inputs[1]] if call.inputs[1] != INPUT else None
    for _ in range(4):
        if below is None or below.name in _NORMS:
            return below is not None
        below = graph.calls[below.inputs[0]] if below.inputs and below.inputs[0] != INPUT else None
    return False
