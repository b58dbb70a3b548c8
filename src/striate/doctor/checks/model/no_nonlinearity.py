"""`model.no-nonlinearity`: is a deep network equivalent to a single linear layer?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.variants import eval_outputs, gain_text, try_change, with_inputs
from striate.doctor.evidence.call_graph import QUOTIENTS, SAME_NUMBERS, TIMES, Call, CallGraph
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import leaves
from striate.doctor.setup.replicas import Replica
from striate.observe.interventions import change_output
from striate.records import Finding, Remedy
from striate.wording import listed, several

CODE = "model.no-nonlinearity"
AFFINE = 1e-4
"""Share of the size of the predictions; float32 rounds to a thousandth of that."""
FAR = 30.0
"""Factor of the inputs' standard deviation; at such large inputs, tanh is nonlinear, which is nearly linear near 0."""
_LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
_LINEAR = """
linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul __matmul__ mm bmm addmm
einsum batch_norm layer_norm group_norm instance_norm avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
adaptive_avg_pool2d adaptive_avg_pool3d mean sum add __add__ __radd__ sub __sub__ __rsub__ cat pad interpolate dropout
dropout1d dropout2d dropout3d alpha_dropout feature_dropout neg __neg__ view reshape flatten unflatten squeeze unsqueeze
permute transpose t T mT contiguous to type float double clone __getitem__ select narrow chunk split unbind stack
view_as reshape_as expand movedim swapaxes Identity upsample pixel_shuffle roll flip
"""
_KNOWN_LINEAR = frozenset(_LINEAR.split())
_MAX_POOLS = frozenset(f"{how}max_pool{axes}d" for how in ("", "adaptive_") for axes in (1, 2, 3))
_NORMS = frozenset(["layer_norm", "group_norm", "instance_norm"])
MANY = 3


def run(evidence: Evidence) -> Iterator[Finding]:
    graph = evidence.prediction_graph
    if graph.output is None:
        raise NoEvidence("the network does not run as a whole")
    chain = _chain(graph, graph.output)
    if len(chain) < 2 or _is_factorized(evidence, chain):
        return
    difference = _nonlinearity(evidence, evidence.fresh)
    linear = difference is not None and difference < AFFINE
    if linear and not _only_linear(graph, graph.output):
        # A branch that starts with zero weights is nonlinear once it is trained.
        later = _nonlinearity(evidence, evidence.trial.replica)
        linear = later is not None and later < AFFINE and evidence.trial.error is None
        linear = linear and not _stays_zero(evidence, chain)
    if linear:
        yield _finding(evidence, chain, difference)
    elif len(chain) > 2 and _only_linear(graph, graph.output):
        yield _finding(evidence, chain, None)
    else:
        yield from _part(evidence, graph, graph.output)


def _stays_zero(evidence: Evidence, chain: list[Call]) -> bool:
    """Whether a weight is all zero after the trial, so that a nonlinearity after it gets no signal."""
    ended = dict(evidence.trial.replica.model.named_parameters())
    weights = (ended[name] for call in chain for name in call.parameters if name in ended)
    return any(weight.ndim > 1 and not bool(weight.any()) for weight in weights)


def _part(evidence: Evidence, graph: CallGraph, end: int) -> Iterator[Finding]:
    """Three layers or more in a row in a network that is nonlinear elsewhere, where an activation between them helps;
    or two layers with needless units between them."""
    wide = next(_needless_width(evidence, graph), None)
    if wide is not None:
        yield _widened(*wide)
        return
    run = _longest_run(graph, end)
    if len(run) == MANY - 1 and len(graph.weights) > MANY and _only_linear(graph, end, allowed=_MAX_POOLS):
        yield _pooled(evidence, graph, run)
        return
    if len(run) < MANY:
        return
    layers = {call.module for call in run[:-1]}
    remedy = try_change(evidence, "with ReLU in between", Change(prepare=lambda replica: _add_relu(replica, layers)))
    if remedy is None or not remedy.better:
        return
    places = [call.place for call in run]
    yield Finding(
        code=CODE,
        severity="warning",
        where=listed(places),
        measured=f"{several(len(run), 'layer')} with weights follow each other without a nonlinearity between them "
        f"({listed(places)}){remedy.gain_text('with ReLU between them')}",
        threshold=f"fewer than {MANY} such layers: two may be one layer in two parts",
        why="Linear layers without a nonlinearity between them are equivalent to one linear layer.",
        remedy=Remedy(
            "Add an activation after each: `x = functional.relu(self.layer(x))`.",
            advice="relu behind each layer but the last, in a layer string",
        ),
    )


def _pooled(evidence: Evidence, graph: CallGraph, run: list[Call]) -> Finding:
    """The finding for a network whose only nonlinearity is max pooling."""
    layers = {call.module for call in graph.weights[:-1]}
    change = Change(prepare=lambda replica: _add_relu(replica, layers))
    remedy = try_change(evidence, "with ReLU after each layer", change)
    places = listed([call.place for call in run])
    return Finding(
        code=CODE,
        severity="warning",
        where=places,
        measured=f"none of {several(len(graph.weights), 'layer')} with weights has an activation after it: max pooling "
        f"is the only nonlinearity, and between {places} there is none{gain_text(remedy, 'with ReLU after each')}",
        threshold=f"at least one activation, in networks of more than {MANY} layers with weights",
        why="Linear layers without a nonlinearity between them are equivalent to one linear layer, and max pooling "
        "changes this little.",
        remedy=Remedy(
            "Add an activation after each: `x = functional.relu(self.layer(x))`.",
            advice="relu behind each layer but the last, in a layer string",
        ),
    )


_POINTWISE = ("linear", "conv1d", "conv2d", "conv3d")
_BETWEEN = SAME_NUMBERS - {"chunk", "split", "unbind", "stack", "__getitem__", "select", "narrow"} | {
    "dropout1d",
    "dropout2d",
    "dropout3d",
}


def _needless_width(evidence: Evidence, graph: CallGraph) -> Iterator[tuple[Call, Call, tuple[int, int, int]]]:
    """Two pointwise layers, the second right after the first, with more units between them than before and after, and
    these three numbers: one layer computes the same. Fewer units in between may be intended, as a compression."""
    for last in graph.weights:
        at = last.inputs[0] if last.inputs else -1
        while at >= 0 and graph.calls[at].name in _BETWEEN and len(graph.consumers[at]) == 1:
            at = graph.calls[at].inputs[0] if graph.calls[at].inputs else -1
        if at < 0 or len(graph.consumers[at]) != 1:
            continue
        first = graph.calls[at]
        if all(_is_pointwise(evidence, call) for call in (first, last)):
            axis = -1 if last.name == "linear" else 1
            before, between, after = first.input_shapes[0][axis], first.shape[axis], last.shape[axis]
            if first.name == last.name and between > max(before, after):
                yield first, last, (before, between, after)


def _is_pointwise(evidence: Evidence, call: Call) -> bool:
    """Whether a call is that of a linear layer, or of a convolution with a kernel of 1, stride 1 and one group."""
    module = dict(evidence.fresh.model.named_modules()).get(call.module)
    if call.name not in _POINTWISE or not call.input_shapes or not call.shape:
        return False
    if isinstance(module, nn.modules.conv._ConvNd):
        return module.groups == 1 and set(module.kernel_size) == {1} and set(module.stride) == {1}
    return isinstance(module, nn.Linear)


def _widened(first: Call, last: Call, units: tuple[int, int, int]) -> Finding:
    before, between, after = units
    return Finding(
        code=CODE,
        severity="warning",
        where=listed([first.place, last.place]),
        measured=f"{last.place} follows {first.place} without a nonlinearity between them: {before} units become "
        f"{between} and then {after}, which a single layer from {before} to {after} can compute as well",
        threshold="more units between two layers than before and after them, and no nonlinearity there",
        why="Linear layers without a nonlinearity between them are equivalent to one linear layer: more units between "
        "them add nothing.",
        remedy=Remedy(
            "Add an activation between them: `x = functional.gelu(self.first(x))`.",
            advice="relu behind each layer but the last, in a layer string",
        ),
    )


def _longest_run(graph: CallGraph, end: int) -> list[Call]:
    """The longest sequence of calls with weights, on all paths, with only linear functions between them."""
    runs: dict[int, list[Call]] = {}
    best: list[Call] = []
    for index in sorted(i for i in graph.ancestors(end) if i >= 0 and graph.calls[i].from_batch):
        call = graph.calls[index]
        before = [runs.get(i, []) for i in call.inputs if i < 0 or graph.calls[i].from_batch]
        shortest = min(before, key=len, default=[])
        if call.name not in _KNOWN_LINEAR - _NORMS:
            runs[index] = []
        elif graph.is_weights(call):
            runs[index] = [*shortest, call]
        else:
            runs[index] = shortest
        best = max(best, runs[index], key=len)
    return best


def _chain(graph: CallGraph, end: int) -> list[Call]:
    """The calls with weights on the longest path from the batch to the end."""
    longest: dict[int, list[Call]] = {}
    for index in sorted(i for i in graph.ancestors(end) if i >= 0):
        call = graph.calls[index]
        best = max((longest.get(i, []) for i in call.inputs), key=len, default=[])
        longest[index] = [*best, call] if graph.is_weights(call) else best
    return longest.get(end, [])


def _is_factorized(evidence: Evidence, chain: list[Call]) -> bool:
    """Whether there are two layers with few units between them, which may be intended, to compress or to save work."""
    if len(chain) != 2:
        return False
    first, last = (math.prod(call.shape[1:]) for call in chain)
    return not evidence.setup.classifies and first < last


def _nonlinearity(evidence: Evidence, replica: Replica) -> float | None:
    """The largest |f(a) + f(b) − f(a + b) − f(0)| as a share of the predictions, in evaluation mode; of scores where
    the predictions are log probabilities. None where inputs or predictions do not allow it."""
    batch = evidence.train.raw[0]
    inputs = evidence.train.x
    if inputs is None or not inputs.is_floating_point():
        return None
    scale = FAR * float(inputs.float().std())
    generator = torch.Generator().manual_seed(0)

    def drawn(tensor: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        return (scale * noise).to(tensor.dtype).to(tensor.device)

    a = with_inputs(batch, drawn)
    b = with_inputs(batch, drawn)
    zero = with_inputs(batch, torch.zeros_like)
    predictions = [eval_outputs(evidence, one, replica=replica) for one in (a, b, _sum(batch, a, b), zero)]
    if len({one.shape for one in predictions}) != 1 or not all(bool(one.isfinite().all()) for one in predictions):
        return None
    differences = []
    for scores in _as_scores(predictions):
        fa, fb, both, nothing = scores
        size = float((fa - nothing).abs().max() + (fb - nothing).abs().max())
        if size > 0 and bool(torch.stack(scores).isfinite().all()):
            differences.append(float((fa + fb - both - nothing).abs().max()) / size)
    return min(differences, default=None)


def _sum(batch: Any, a: Any, b: Any) -> Any:
    """The batch with the sums of the inputs of two other batches as its inputs."""
    first, second = dict(leaves(a)), dict(leaves(b))
    places = {id(tensor): path for path, tensor in leaves(batch)}
    return with_inputs(batch, lambda tensor: first[places[id(tensor)]] + second[places[id(tensor)]])


def _as_scores(predictions: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    yield predictions
    if predictions[0].ndim > 1 and predictions[0].shape[1] > 1 and all(float(a.max()) <= 1e-9 for a in predictions):
        yield [one - one[:, :1] for one in predictions]


def _only_linear(graph: CallGraph, end: int, allowed: frozenset[str] = frozenset()) -> bool:
    """Whether only linear functions, normalization, which computes no new features, and `allowed` functions are between
    the layers with weights."""
    calls = [graph.calls[i] for i in graph.ancestors(end) if i >= 0 and graph.calls[i].from_batch]
    by_number = TIMES | QUOTIENTS  # such as images divided by 255
    last = graph.origin(end)
    calls = [call for call in calls if call is not last or call.name not in ("softmax", "log_softmax", "sigmoid")]
    names = {call.name for call in calls if not (call.name in by_number and len(call.input_shapes) == 1)}
    return names <= _KNOWN_LINEAR | allowed and not any(
        len([i for i in call.inputs if i < 0 or graph.calls[i].from_batch]) > 1
        for call in graph.calls
        if call.name in ("matmul", "__matmul__", "bmm", "einsum", "mm")
    )


def _finding(evidence: Evidence, chain: list[Call], difference: float | None) -> Finding:
    places = [call.place for call in chain]
    layers = {call.module for call in chain[:-1]}
    remedy = try_change(evidence, "with ReLU", Change(prepare=lambda replica: _add_relu(replica, layers)))
    if difference is None:
        how = "only linear functions and normalization between them"
    else:
        how = f"f(a) + f(b) = f(a + b) + f(0) up to {difference:.1g} of the predictions"
    measured = f"{several(len(chain), 'layer')} with weights one after the other ({listed(places)}), and {how}"
    return Finding(
        code=CODE,
        severity="error",
        where=listed(places),
        measured=f"{measured}{gain_text(remedy, 'with ReLU between them')}",
        threshold=f"a difference of more than {AFFINE:g} of the predictions; less is rounding",
        why="Linear layers without a nonlinearity between them are equivalent to one linear layer: depth and width add "
        "nothing.",
        remedy=Remedy(
            "Add an activation after each layer except the last: `x = functional.relu(self.layer(x))`, or nn.ReLU() "
            "between them in nn.Sequential.",
            advice="relu behind each layer but the last, in a layer string",
        ),
    )


def _add_relu(replica: Replica, layers: set[str]) -> None:
    for name, part in replica.model.named_modules():
        if name in layers and isinstance(part, _LAYERS):
            change_output(part, lambda _, output: nn.functional.relu(output))


NO_NONLINEARITY = Check(
    codes=(CODE,),
    run=run,
    explains=(
        "model.collapsed model.receptive-field model.redundant-filters model.vanishing-gradient optim.lr-too-low fit.*"
    ),
)
