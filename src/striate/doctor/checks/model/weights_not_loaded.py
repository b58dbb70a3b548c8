"""`model.weights-not-loaded`: did the network take what was read for it?"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.evaluated.never_updated import networks_by_name
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import called, receiver_of
from striate.records import Finding
from striate.wording import several

_WRAPPED, _WRAPPERS = "module.", ("DataParallel", "DistributedDataParallel")
_TAKEN = 0.1
"""A head of another size is dropped by hand; what is read is then still most of the file."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    named = [network for _, network in networks_by_name(evidence.source)]  # a teacher, too
    own = {id(tensor) for network in (evidence.setup.model, *named) for tensor in network.parameters()}
    for load in evidence.source.loads:
        given, taken = len(load.names), load.matched
        if not given or taken > _TAKEN * given or not any(id(tensor) in own for tensor in load.module.parameters()):
            continue
        fits = load.renamed
        yield CHECK.finding(
            severity="error",
            where=load.where,
            measured=f"of {several(given, 'tensor')} passed to `load_state_dict(…, strict=False)`, the network has "
            f"{taken}: the first is named {load.names[0]!r}, that of the network {load.module_names[0]!r}",
            limit=f"at most {_TAKEN:.0%} of the tensors passed have a name that the network has",
            why="Other names are ignored without a message: the network trains from its random weights.",
            remedy=f"`load_state_dict({fits})`, which says what is missing"
            if fits
            else "leave out `strict=False`, so that it says what is missing, and rename the tensors of the file",
        )


def _after_training(evidence: Evidence) -> Iterator[Finding]:
    """What DataParallel trains has `module.` before all its names, and a network without it takes none of them."""
    source = evidence.source
    nodes = list(source.nodes())
    trained = all(name.startswith(_WRAPPED) for name in evidence.setup.model.state_dict())
    saved = (receiver_of(node) for node in nodes if isinstance(node, ast.Call) and called(node) == "state_dict")
    wrapper = next((called(owner) for owner in saved if owner is not None and called(owner) in _WRAPPERS), "")
    if not trained and not wrapper:
        return
    if any(isinstance(node, ast.Constant) and node.value == _WRAPPED for node in nodes):
        return  # it is taken off
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


def _both(evidence: Evidence) -> Iterator[Finding]:
    found = list(_run(evidence)) or list(_after_training(evidence))
    yield from found or list(_put_before(evidence)) or list(_of_part(evidence)) or _whole_checkpoint(evidence.source)


def _put_before(evidence: Evidence) -> Iterator[Finding]:
    """A beginning that is put before all names of what is loaded, `{f"model.{k}": v …}`, and that no name of a network
    has that is known, or made of the class of the one that is trained."""
    source = evidence.source
    for site in _lax_loads(source):
        given = site.node.args[0] if site.node.args else None
        if isinstance(given, ast.Name):
            given = source.last_value(site.node, given.id)
        beginning = _beginning(given.key) if isinstance(given, ast.DictComp) else ""
        owner = receiver_of(site.node)
        model = source.value(owner)
        if not isinstance(model, nn.Module):
            made = None if owner is None else source.last_value(site.node, ast.unparse(owner))
            model = evidence.setup.model
            if made is None or called(made) != type(model).__name__:
                continue
        if not beginning or any(name.startswith(beginning) for name in model.state_dict()):
            continue
        yield CHECK.finding(
            severity="error",
            where=site.where,
            measured=f"`{site.text}` ignores names that do not fit: all names that it gets begin with {beginning!r}, "
            f"but no name of {type(model).__name__} does",
            limit="names get a prefix that no name of the network has",
            why="None of the weights is loaded, without a message: from there on the network has other weights.",
            remedy="leave out `strict=False`, so that it says what is missing, and keep the names as they were saved",
        )
        return


def _of_part(evidence: Evidence) -> Iterator[Finding]:
    """A network of the class of a part of the one that is trained, given the names of the whole, which begin with that
    part's: `net.load_state_dict(saved["state_dict"], strict=False)` of what Lightning has saved."""
    source, model = evidence.source, evidence.setup.model
    parts = {type(part).__name__: (path, part) for path, part in model.named_modules() if path}
    for site in _lax_loads(source):
        given, owner = site.node.args[0] if site.node.args else None, receiver_of(site.node)
        if isinstance(given, ast.Name):
            given = source.last_value(site.node, given.id)
        made = None if owner is None else source.last_value(site.node, ast.unparse(owner))
        path, part = parts.get(called(made), ("", None)) if made is not None else ("", None)
        whole = isinstance(given, ast.Subscript) and source.value(given.slice) == "state_dict"
        if part is None or not whole or part.state_dict().keys() & model.state_dict().keys():
            continue
        yield CHECK.finding(
            severity="error",
            where=site.where,
            measured=f"`{site.text}` ignores names that do not fit: the saved {type(model).__name__} has {path!r} "
            f"before the names of its {type(part).__name__}, but that part alone has no such names",
            limit="a part of the trained network gets the names of the whole",
            why="None of the weights is loaded, without a message: from there on this part has random weights.",
            remedy=f"`{{name.removeprefix({path + '.'!r}): value for name, value in {ast.unparse(given)}.items()}}`, "  # type: ignore[arg-type]
            "without `strict=False`",
        )
        return


def _whole_checkpoint(source: ScriptSource) -> Iterator[Finding]:
    """A file that is loaded as it is, `load_state_dict(torch.load("best.pth"), strict=False)`, though what the script
    saves there is a dictionary of several things."""
    for site in _lax_loads(source):
        given = site.node.args[0] if site.node.args else None
        if isinstance(given, ast.Name):
            given = source.last_value(site.node, given.id)
        if not isinstance(given, ast.Call) or called(given) != "load" or not given.args:
            continue
        for saved in source.calls("save"):
            if len(saved.node.args) < 2 or _file(saved.node.args[1]) != _file(given.args[0]):
                continue
            whole = saved.node.args[0]
            if isinstance(whole, ast.Name):
                whole = source.last_value(saved.node, whole.id) or whole
            held = _held_by(whole)
            names, states = list(held), [name for name, value in held.items() if called(value) == "state_dict"]
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


def _held_by(made: ast.expr) -> dict[str, ast.expr]:
    """What a dictionary holds by name, `{"model": …}` or `dict(model=…)`; nothing where a name cannot be read."""
    if isinstance(made, ast.Call) and called(made) == "dict" and not made.args:
        return {word.arg: word.value for word in made.keywords if word.arg is not None}
    if not isinstance(made, ast.Dict):
        return {}
    pairs = zip(made.keys, made.values, strict=True)
    return {key.value: value for key, value in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def _file(node: ast.expr) -> str:
    """The name of a file as it is written: the last constant in `os.path.join(folder, "best.pth")`, or the whole."""
    texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return texts[-1] if texts else ast.unparse(node)


def _lax_loads(source: ScriptSource) -> Iterator[Site]:
    """Calls of `load_state_dict` that let names differ."""
    for site in source.calls("load_state_dict"):
        if any(word.arg == "strict" and source.value(word.value) is False for word in site.node.keywords):
            yield site


def _beginning(key: ast.expr) -> str:
    """The constant that a name begins with: `f"model.{k}"`, `"model." + k`."""
    first = key.values[0] if isinstance(key, ast.JoinedStr) and key.values else None
    if isinstance(key, ast.BinOp) and isinstance(key.op, ast.Add):
        first = key.left
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


CHECK = Check(
    codes=("model.weights-not-loaded",),
    question="Did the network load the weights that were read for it?",
    run=_both,
    of_source=True,
    explains="model.frozen-parameters fit.*",
)
