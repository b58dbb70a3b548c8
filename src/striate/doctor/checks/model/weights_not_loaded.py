"""`model.weights-not-loaded`: did the network load the weights that were read for it?"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.evaluated.never_updated import networks_by_name
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import called, is_constant, is_operation, nodes_in, receiver_of
from striate.records import Finding
from striate.wording import percent, several

_WRAPPED, _WRAPPERS = "module.", ("DataParallel", "DistributedDataParallel")
_TAKEN = 0.1
"""Share of the tensors that are loaded; where the head alone has another size, most tensors are still loaded."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    named = [network for _, network in networks_by_name(evidence.source)]  # a teacher, too
    own = {id(tensor) for network in (evidence.setup.model, *named) for tensor in network.parameters()}
    for load in evidence.source.loads:
        passed, taken = len(load.names), load.matched
        if not passed or taken > _TAKEN * passed or not any(id(tensor) in own for tensor in load.module.parameters()):
            continue
        fits = load.renamed
        yield CHECK.finding(
            severity="error",
            where=load.where,
            measured=f"of {several(passed, 'tensor')} passed to `load_state_dict(…, strict=False)`, the network has "
            f"{taken}: the first is named {load.names[0]!r}, that of the network {load.module_names[0]!r}",
            limit=f"at most {percent(_TAKEN, 0)} of the tensors passed have a name that the network has",
            why="Other names are ignored without a message: the network trains from its random weights.",
            remedy=f"`load_state_dict({fits})`, which says what is missing"
            if fits
            else "leave out `strict=False`, so that it says what is missing, and rename the tensors of the file",
        )


def _after_training(evidence: Evidence) -> Iterator[Finding]:
    """States that DataParallel saves, whose names all begin with `module.`, so that a network without it loads none."""
    source = evidence.source
    nodes = list(source.nodes())
    trained = all(name.startswith(_WRAPPED) for name in evidence.setup.model.state_dict())
    saved = (receiver_of(node) for node in nodes if isinstance(node, ast.Call) and called(node) == "state_dict")
    wrapper = next((called(owner) for owner in saved if owner is not None and called(owner) in _WRAPPERS), "")
    if not trained and not wrapper:
        return
    if any(is_constant(node, _WRAPPED) for node in nodes):
        return  # the script removes the prefix
    if any(isinstance(node, ast.Attribute) and ast.unparse(node).endswith(".module.state_dict") for node in nodes):
        return
    for site in _lax_loads(source):
        if isinstance(source.value(receiver_of(site.node)), nn.Module):
            continue
        yield CHECK.finding(
            severity="error",
            where=site.where,
            measured=f"`{site.text}` ignores names that do not fit, and all names of the network that is "
            f"{'trained' if trained else 'saved'} begin with `module.`, which "
            f"{type(evidence.setup.model).__name__ if trained else wrapper} adds",
            limit="all names begin with `module.`, and nothing removes it",
            why="A network without that wrapper loads none of them, without a message, and keeps its random weights.",
            remedy=f"save `model.{'module.' if trained else ''}state_dict()`, and leave out `strict=False`",
        )
        return


def _all_rules(evidence: Evidence) -> Iterator[Finding]:
    findings = list(_run(evidence)) or list(_after_training(evidence)) or list(_prefixed(evidence))
    yield from findings or list(_of_part(evidence)) or _whole_checkpoint(evidence.source)


def _prefixed(evidence: Evidence) -> Iterator[Finding]:
    """A prefix that the script adds to all names of a state, `{f"model.{k}": v …}`, though no name of the network that
    loads it has that prefix. The network is known, or created from the class of the trained one."""
    source = evidence.source
    for site in _lax_loads(source):
        state = site.node.args[0] if site.node.args else None
        if isinstance(state, ast.Name):
            state = source.last_value(site.node, state.id)
        prefix = _prefix(state.key) if isinstance(state, ast.DictComp) else ""
        owner = receiver_of(site.node)
        model = source.value(owner)
        if not isinstance(model, nn.Module):
            value = None if owner is None else source.last_value(site.node, ast.unparse(owner))
            model = evidence.setup.model
            if value is None or called(value) != type(model).__name__:
                continue
        if not prefix or any(name.startswith(prefix) for name in model.state_dict()):
            continue
        yield CHECK.finding(
            severity="error",
            where=site.where,
            measured=f"`{site.text}` ignores names that do not fit: all names that it gets begin with {prefix!r}, "
            f"but no name of {type(model).__name__} does",
            limit="names get a prefix that no name of the network has",
            why="None of the weights is loaded, without a message: from there on the network has other weights.",
            remedy="leave out `strict=False`, so that it says what is missing, and keep the names as they were saved",
        )
        return


def _of_part(evidence: Evidence) -> Iterator[Finding]:
    """A network of the class of a part of the trained network that loads the state of the full network, whose names
    begin with that of the part: `net.load_state_dict(saved["state_dict"], strict=False)` of Lightning's checkpoint."""
    source, model = evidence.source, evidence.setup.model
    parts = {type(part).__name__: (path, part) for path, part in model.named_modules() if path}
    for site in _lax_loads(source):
        state, owner = site.node.args[0] if site.node.args else None, receiver_of(site.node)
        if isinstance(state, ast.Name):
            state = source.last_value(site.node, state.id)
        value = None if owner is None else source.last_value(site.node, ast.unparse(owner))
        path, part = parts.get(called(value), ("", None)) if value is not None else ("", None)
        full = isinstance(state, ast.Subscript) and source.value(state.slice) == "state_dict"
        if part is None or not full or part.state_dict().keys() & model.state_dict().keys():
            continue
        yield CHECK.finding(
            severity="error",
            where=site.where,
            measured=f"`{site.text}` ignores names that do not fit: the saved {type(model).__name__} has {path!r} "
            f"before the names of its {type(part).__name__}, but that part alone has no such names",
            limit="a part of the trained network gets the names of the whole",
            why="None of the weights is loaded, without a message: from there on this part has random weights.",
            remedy=f"`{{name.removeprefix({path + '.'!r}): value for name, value in {ast.unparse(state)}.items()}}`, "  # type: ignore[arg-type]
            "without `strict=False`",
        )
        return


def _whole_checkpoint(source: ScriptSource) -> Iterator[Finding]:
    """A checkpoint that is loaded as a state, `load_state_dict(torch.load("best.pth"), strict=False)`, though the
    script saves a dictionary of several things in that file."""
    for site in _lax_loads(source):
        state = site.node.args[0] if site.node.args else None
        if isinstance(state, ast.Name):
            state = source.last_value(site.node, state.id)
        if not isinstance(state, ast.Call) or called(state) != "load" or not state.args:
            continue
        for saved in source.calls("save"):
            if len(saved.node.args) < 2 or _file(saved.node.args[1]) != _file(state.args[0]):
                continue
            checkpoint = saved.node.args[0]
            if isinstance(checkpoint, ast.Name):
                checkpoint = source.last_value(saved.node, checkpoint.id) or checkpoint
            entries = _entries(checkpoint)
            names, states = list(entries), [name for name, value in entries.items() if called(value) == "state_dict"]
            if states:
                yield CHECK.finding(
                    severity="error",
                    where=site.where,
                    measured=f"`{site.text}` ignores names that do not fit, and line {saved.node.lineno} saves a "
                    f"dictionary of {', '.join(map(repr, names[:6]))}, none of which is a tensor of a network",
                    limit="a network gets a whole checkpoint, not the weights in it",
                    why="None of the weights is loaded, without a message: from there on the network has other ones.",
                    remedy=f"pass the part that holds the weights, `torch.load(…)[{states[0]!r}]`, without "
                    "`strict=False`",
                )
                return


def _entries(node: ast.expr) -> dict[str, ast.expr]:
    """The entries of a dictionary with constant names, `{"model": …}` or `dict(model=…)`; empty for anything else."""
    if isinstance(node, ast.Call) and called(node) == "dict" and not node.args:
        return {word.arg: word.value for word in node.keywords if word.arg is not None}
    if not isinstance(node, ast.Dict):
        return {}
    pairs = zip(node.keys, node.values, strict=True)
    return {key.value: value for key, value in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def _file(node: ast.expr) -> str:
    """The name of a file in an expression: the last string in `os.path.join(folder, "best.pth")`, or else the
    expression."""
    texts = [part.value for part in nodes_in(node, ast.Constant) if isinstance(part.value, str)]
    return texts[-1] if texts else ast.unparse(node)


def _lax_loads(source: ScriptSource) -> Iterator[Site]:
    """Calls of `load_state_dict` with `strict=False`."""
    for site in source.calls("load_state_dict"):
        if any(word.arg == "strict" and source.value(word.value) is False for word in site.node.keywords):
            yield site


def _prefix(key: ast.expr) -> str:
    """The constant with which a name begins: `f"model.{k}"`, `"model." + k`."""
    first = key.values[0] if isinstance(key, ast.JoinedStr) and key.values else None
    if is_operation(key, ast.Add):
        first = key.left
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


CHECK = Check(
    codes=("model.weights-not-loaded",),
    run=_all_rules,
    of_source=True,
    explains="model.frozen-parameters fit.*",
)
