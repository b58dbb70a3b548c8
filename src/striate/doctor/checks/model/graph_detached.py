"""`model.graph-detached`: is the backward path from the loss to the parameters cut somewhere?"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.origins import are_untrained
from striate.doctor.checks.model.variants import gain_text, try_change
from striate.doctor.evidence.call_graph import PRODUCTS, Call, CallGraph
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial_variants import first_argument, replaced
from striate.doctor.setup.reached_objects import parameters_held
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, last_name, nodes_in, receiver_of
from striate.records import Finding
from striate.wording import listed, listed_names, percent, several

_CODE = "model.graph-detached"
_NO_GRAPH = ("does not require grad and does not have a grad_fn", "Inference tensors cannot be saved for backward")
_LEAVES_TORCH = ("numpy", "tolist", "item", "__array__")
_SHARE = 0.05
"""Share of the trainable values; where fewer are cut off, little is lost."""


def _find_graph_detached(evidence: Evidence) -> Iterator[Finding]:
    model, graph = evidence.setup.model, evidence.graph
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    used = trainable & graph.used
    if not used:
        return
    if graph.error is not None and any(text in str(graph.error) for text in _NO_GRAPH):
        yield _all_cut(graph, f"backward fails: {str(graph.error).partition('.')[0][:120]}")
    elif graph.error is None and graph.backward and evidence.trial.rows:
        gradients = evidence.first.gradients
        without = {name for name in used if gradients.get(name) is None} - evidence.trial.changed
        if without == used:
            yield _all_cut(graph, f"backward runs, but none of {several(len(used), 'parameter')} gets a gradient")
        elif without:
            yield from list(_partly(evidence, graph, without)) or _not_backward(evidence, graph, without)
        elif (finding := _sampled_by_normal(graph)) is not None:
            yield finding
        elif evidence.setup.source is not None:
            yield from _sampled(evidence)


_REPARAMETERIZED = frozenset(
    ("Normal", "LogNormal", "Laplace", "Uniform", "Beta", "Gamma", "Dirichlet", "MultivariateNormal")
)


def _sampled_by_normal(graph: CallGraph) -> Finding | None:
    """`torch.normal` with a mean and a standard deviation that the network predicts."""
    calls = (call for call in graph.calls if call.name == "normal" and call.inside and call.from_batch)
    draw = next((call for call in calls if call.input_requires_grad), None)  # its gradient with respect to them is 0
    if draw is None:
        return None
    return GRAPH_DETACHED.finding(
        severity="error",
        where=draw.place,
        measured=f"no gradient passes through `torch.normal` in {draw.place}: the layers that compute its mean and "
        "standard deviation learn nothing from the drawn sample",
        why="Only loss terms that use these parameters directly, such as a divergence, train the encoder.",
        remedy="`mean + deviation * torch.randn_like(deviation)` lets gradients through (Kingma and Welling 2014)",
    )


def _sampled(evidence: Evidence) -> Iterator[Finding]:
    """Samples of a distribution whose parameters the network predicts, by `sample()` instead of `rsample()`; not in
    scripts that call `log_prob`, as those with a policy gradient do."""
    source = evidence.source
    if source.calls("log_prob"):
        return
    for site in source.calls("sample"):
        distribution = receiver_of(site.node)
        if isinstance(distribution, ast.Name):
            name = distribution.id
            stores = list(nodes_in(source.scope_of(site.node), ast.Assign))
            distribution = next(
                (n.value for n in stores if any(isinstance(t, ast.Name) and t.id == name for t in n.targets)), None
            )
        function = source.function_of(site.node)
        owner = None if function is None else source.parent(function)
        within = isinstance(owner, ast.ClassDef) and any(
            isinstance(part, ast.FunctionDef) and part.name == "forward" for part in owner.body
        )
        variables = [
            part
            for one in getattr(distribution, "args", [])
            if not _is_setting(source, one, site.node)
            for part in nodes_in(one, ast.Name)
        ]
        if distribution is None or called(distribution) not in _REPARAMETERIZED:
            continue
        if not within and site.often != "batch":
            continue
        # A coefficient of mixup depends on a constant, and is used as a number.
        if _is_number(source, site.node) or not any(_from_network(source, part, within) for part in variables):
            continue
        yield Finding(
            code=_CODE,
            severity="error",
            where=site.where,
            measured=f"no gradient passes through `{site.text}`: the layers that compute "
            f"{listed_names([p.id for p in variables])} learn nothing from the drawn sample",
            threshold="sample() of a distribution whose parameters the network predicts, without log_prob",
            why="Only loss terms that use these parameters directly, such as a divergence, train the encoder.",
            remedy=f"`{site.text.replace('.sample(', '.rsample(')}` lets gradients through (Kingma and Welling 2014)",
        )
        return


def _is_setting(source: ScriptSource, parameter: ast.expr, draw: ast.AST) -> bool:
    """Whether a parameter of a distribution is a setting, rather than a prediction: `self.alpha`,
    `self.hparams.alpha`, or a variable that holds a number at the draw."""
    root = parameter
    while isinstance(root, ast.Attribute):
        root = root.value
    if isinstance(parameter, ast.Attribute) and last_name(root) == "self":
        return True
    value = source.last_value(draw, parameter.id) if isinstance(parameter, ast.Name) else None
    if isinstance(value, ast.Call) and called(value) == "tensor" and value.args:
        value = value.args[0]
    return any(isinstance(source.value(one), int | float) for one in (parameter, value))


def _is_number(source: ScriptSource, draw: ast.AST) -> bool:
    """Whether the script converts a sample to a plain number: `.sample().item()`."""
    outer = source.parent(draw)
    return isinstance(outer, ast.Attribute) and outer.attr in ("item", "numpy", "tolist")


def _from_network(source: ScriptSource, name: ast.Name, within: bool) -> bool:
    """Whether a variable may hold a network's output: in a module, or in the function that computes it, or as an
    argument that is a variable or the result of a call."""
    function = source.function_of(name)
    if within or function is None or name.id not in {one.arg for one in nodes_in(function, ast.arg)}:
        return True
    calls = (dict(source.arguments(function, site.node)) for site in source.calls_of(function))
    return any(isinstance(arguments.get(name.id), ast.Name | ast.Call) for arguments in calls)


def _all_cut(graph: CallGraph, measured: str) -> Finding:
    cut = _last_cut(graph, None)
    if cut is not None and _is_off(cut):
        where = cut.place
        fix = "Remove `with torch.no_grad():` (or `torch.inference_mode()`) where the network is trained."
        cause = f"gradients are switched off where {cut.name} runs in {where}"
    elif cut is not None:
        where = cut.place
        cause = f"the last call whose input has a gradient and whose output has none is {_call(cut)}"
        fix = f"{_removed(_cuts(graph, None))}: pass the tensor itself to the loss, and call `loss.backward()` on the "
        fix += "result."
    else:
        where, cause = "the loss", "the loss is computed from a plain number, not from the outputs"
        fix = "Call `loss.backward()` on the result of the loss, without `.item()`, `.data` or `torch.tensor(loss)`."
    return Finding(
        code=_CODE,
        severity="error",
        where=where,
        measured=f"{measured}; {cause}",
        threshold="a gradient for each parameter in use",
        why="Backward does not reach the parameters from this loss, so nothing is learned.",
        remedy=fix,
    )


def _partly(evidence: Evidence, graph: CallGraph, names: set[str]) -> Iterator[Finding]:
    """Parameters that the loss depends on, but whose gradient is lost before it reaches them."""
    if graph.root is None:
        return
    before_loss = graph.ancestors(graph.root)
    lost: dict[str, Call] = {}
    cuts: dict[int, Call] = {}
    for name in sorted(names):
        users = [call.index for call in graph.calls if name in call.parameters]
        ends = [cut for cut in _cuts(graph, users) if cut.index in before_loss or _leaves(graph, cut)]
        if ends:
            lost[name] = ends[-1]
            cuts |= {cut.index: cut for cut in ends}
    model, optimizer = evidence.setup.model, evidence.setup.optimizer
    parameters = dict(model.named_parameters())
    if isinstance(optimizer, Optimizer):
        held = parameters_held(optimizer)
        lost = {name: cut for name, cut in lost.items() if id(parameters[name]) in held}
    if not lost:
        return
    numbers = sum(parameters[name].numel() for name in lost)
    share = numbers / max(sum(p.numel() for p in parameters.values() if p.requires_grad), 1)
    untrained = are_untrained(evidence.fresh.model, set(lost))
    yield _some_cut(evidence, [cuts[index] for index in sorted(cuts)], list(lost), numbers, share, untrained)


def _not_backward(evidence: Evidence, graph: CallGraph, names: set[str]) -> Iterator[Finding]:
    """A loss that alone uses some layers, but does not take part in backward: `total = one + other.item()`."""
    optimizer = evidence.setup.optimizer
    held = parameters_held(optimizer) if isinstance(optimizer, Optimizer) else None
    parameters = dict(evidence.setup.model.named_parameters())
    known = {name for name in names if held is None or id(parameters[name]) in held}
    before_loss = frozenset[int]() if graph.root is None else graph.ancestors(graph.root)
    for call in graph.calls if before_loss else ():
        if call.name not in _LOSSES or not call.output_requires_grad or call.index in before_loss or call.inside:
            continue
        sources = graph.ancestors(call.index)
        lost = sorted(name for name in known if any(name in graph.calls[i].parameters for i in sources if i >= 0))
        if not lost or not are_untrained(evidence.fresh.model, set(lost)):
            continue
        layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in lost))
        yield GRAPH_DETACHED.finding(
            severity="error",
            where="the loss",
            measured=f"{listed_names(layers)} {'gets' if len(layers) == 1 else 'get'} no gradient "
            f"({several(sum(parameters[name].numel() for name in lost), 'parameter')}): `{call.name}`, which uses "
            "their outputs, does not take part in the backward pass",
            why="A loss that is left out, or is added as a number by `.item()` or `.detach()`, trains nothing.",
            remedy="add the loss itself, without `.item()`: `loss = classification + weight * boxes`",
        )
        return


_LOSSES = frozenset(
    ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
     "smooth_l1_loss", "huber_loss", "kl_div")
)  # fmt: skip


def _some_cut(
    evidence: Evidence, cuts: list[Call], names: list[str], numbers: int, share: float, untrained: bool
) -> Finding:
    cut = cuts[-1]
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    off = _is_off(cut)
    detaches = tuple(one for one in cuts if one.name in ("detach", "data"))
    remedy = try_change(evidence, "not detached", replaced(detaches, first_argument)) if detaches else None
    severe = evidence.setup.compares and share >= _SHARE
    how = (
        f"gradients are switched off where {cut.name} runs in {cut.place}"
        if off
        else f"the graph is cut at {_call(cut)}"
    )
    indexed = _gives_indices(evidence.graph, cut)
    change = f"Remove `torch.no_grad()` in {cut.place}." if off else f"{_removed(cuts)}."
    if indexed is not None:
        how += f", which uses the indices that `{indexed.name}` returns, not its values"
        place = f" ({cut.line})" if cut.line else ""
        change = change if off else f"Use the values that `{indexed.name}` returns, `[0]` and not `[1]`{place}."
    return Finding(
        code=_CODE,
        severity="note" if not untrained else "error" if severe else "warning",
        where=cut.place,
        measured=f"no gradient comes back to {listed_names(layers)} ({several(numbers, 'parameter')}, "
        f"{percent(share, 0)} of all), which are used and held by the optimizer: "
        f"{how}{gain_text(remedy, f'without the {cut.name}')}",
        threshold="a gradient for each parameter that is used and held by the optimizer",
        why="Everything before the cut keeps its initialization."
        if untrained
        else "Everything before the cut looks trained: if it should stay so, leave it out of the optimizer.",
        remedy=change,
    )


def _is_off(cut: Call) -> bool:
    """Whether gradients are switched off at a cut: else the output of a call with a parameter would have one."""
    return bool(cut.parameters) or cut.name in PRODUCTS


def _last_cut(graph: CallGraph, users: list[int] | None) -> Call | None:
    """The last of the cuts; None where there is none."""
    return next(reversed(_cuts(graph, users)), None)


def _cuts(graph: CallGraph, users: list[int] | None) -> list[Call]:
    """The calls on the path from the batch whose input has a gradient and whose output has none, after the calls
    `users` if these are given. Calls that only read numbers, as from the finished loss, do not count."""
    end = len(graph.calls) if graph.root is None or users is None else graph.root + 1
    cuts = [
        call
        for call in graph.calls[:end]
        if call.input_requires_grad
        and not call.output_requires_grad
        and call.from_batch
        and not _only_reads(graph, call)
    ]
    if users is not None:
        cuts += [call for call in graph.calls[:end] if _gives_indices(graph, call) is not None]
        cuts = sorted((call for call in cuts if graph.ancestors(call.index) & set(users)), key=lambda call: call.index)
    elif graph.root is not None:
        before_loss = graph.ancestors(graph.root)
        cuts = [call for call in cuts if call.index in before_loss] or cuts
    return cuts


def _gives_indices(graph: CallGraph, call: Call) -> Call | None:
    """The earlier call, such as `max`, whose indices, which have no gradient, this call uses instead of its values;
    None for other calls."""
    if call.input_requires_grad or call.output_requires_grad or not call.from_batch or _only_reads(graph, call):
        return None
    return next((graph.calls[i] for i in call.inputs if i >= 0 and graph.calls[i].output_requires_grad), None)


def _only_reads(graph: CallGraph, call: Call) -> bool:
    """Whether a call outside of the network only reads a number, as for a display."""
    return call.name in ("backward", *_LEAVES_TORCH) and not call.inside and call.index != graph.root


def _leaves(graph: CallGraph, cut: Call) -> bool:
    """Whether a tensor is converted to NumPy or numbers within the network, at or after a cut, so that the call graph
    does not continue there."""
    return any(
        call.name in _LEAVES_TORCH and call.inside and (call is cut or cut.index in graph.ancestors(call.index))
        for call in graph.calls[cut.index :]
    )


def _removed(cuts: list[Call]) -> str:
    """The remedy that removes all cuts: `Remove .detach() in encoder (net.py, line 12: …) and …`."""
    lines = [f"{_call(cut)}{f' ({cut.line})' if cut.line else ''}" for cut in cuts]
    return f"Remove {listed(list(dict.fromkeys(lines)), 8)}"


def _call(call: Call) -> str:
    texts = {"data": "`.data`", "numpy": "`.numpy()`", "detach": "`.detach()`", "item": "`.item()`"}
    return f"{texts.get(call.name, f'`{call.name}`')} in {call.place}"


GRAPH_DETACHED = Check(
    codes=(_CODE,),
    threshold="a parameter that is used, requires a gradient, is held by the optimizer and gets none (exact)",
    run=_find_graph_detached,
    explains=(
        "loss.degenerate model.collapsed model.evaluates-untrained model.frozen-parameters model.redundant-filters "
        "model.unused-parameters model.vanishing-gradient optim.gradient-wrong optim.lr-too-low optim.no-step "
        "optim.parameters-missing fit.*"
    ),
)
