"""`eval.mode`: is the network put into evaluation mode for evaluation, and back for training?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.eval.phases_in_training import phases_in_training
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import assigned, called, last_name, names_in, nodes_in, receiver_of
from striate.records import Finding
from striate.wording import listed_names

_NO_GRADIENTS = ("no_grad", "inference_mode")
_DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
_DRAWS = re.compile("sample|generate|noise|draw", re.IGNORECASE)
"""Names of functions that draw new samples, which batch norm may show as in training."""
_BRANCHES = (ast.If, ast.For, ast.While, ast.Try)
_ACTIVE = (
    "Dropout still drops units, and batch norm uses the statistics of the evaluated batches: the accuracy is not that "
    "of the network in use."
)
_EVALUATION = ("val", "test", "dev", "eval", "holdout")


def _run(evidence: Evidence) -> Iterator[Finding]:
    source, asking = evidence.source, _reading_their_mode(evidence.source)
    parts = [
        name
        for name, part in evidence.setup.model.named_modules()
        if (isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0)
        or (isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats)
        or type(part).__name__ in asking
    ]
    if not parts:
        return
    evaluating, training = _modes(source, evidence.setup.model)
    loop: ast.AST | None = None if evaluating else _evaluation_loop(source)
    if not evaluating and loop is None and training and source.library is None:
        loop = _run_without_gradients(source) or _switched(source) or next(_evaluated_at_once(source), None)
    observed = "no code calls `.eval()`"
    if loop is None and source.library is None:
        loop, observed = (
            _left_in_training(source, evaluating, evidence.setup.model)
            or _still_training(source, evaluating, training),
            "nothing calls `.eval()` here or before it",
        )
    phase = (
        next(phases_in_training(source, list(dict.fromkeys([*evaluating, *training]))), None) if loop is None else None
    )
    if phase is not None:
        yield MODE.finding(
            severity="warning",
            where=f"the evaluation, line {phase.line}",
            measured=f"with `{phase.call}` nothing is trained, since `{phase.switch}` is not true, but the network is "
            f"in training mode: {_listed(parts)} {'work' if parts[1:] else 'works'} there as in training",
            limit="a network with dropout or batch norm, and a call named for evaluation that turns gradients off, or "
            "makes no backward pass, by the same argument that puts the network into training mode",
            why=_ACTIVE,
            remedy=f"use the same condition for both: `model.train({phase.switch})`",
        )
    if loop is not None:
        line = getattr(loop, "lineno", 0)
        yield MODE.finding(
            severity="warning",
            where=f"the evaluation, line {line}",
            measured=f"{observed}: {_listed(parts)} {'work' if parts[1:] else 'works'} in evaluation as in training",
            limit="a network with dropout or batch norm, a loop over validation data without gradients, and no "
            "`.eval()` before it",
            why=_ACTIVE,
            remedy="Call `model.eval()` before the evaluation, and `model.train()` before training continues.",
        )
    repeated = [
        site
        for site in evaluating
        if site.often != "once"
        and _comes_between_steps(source, site)
        and not _of_another_training(source, site)
        and not _is_of_new_network(source, site)
    ]
    own = [site for site in training if not _of_another_training(source, site)]
    back = any(site.often != "once" or _begins_pass(source, site) for site in own)
    if repeated and not back and not _frozen(evidence.setup.model, parts):
        yield MODE.finding(
            severity="warning",
            where=repeated[0].where,
            measured=f"`{repeated[0].text}` runs repeatedly, and there is no `.train()` after it: from the first "
            f"evaluation on {_listed(parts)} {'are' if parts[1:] else 'is'} in evaluation mode during training",
            limit="a network with dropout or batch norm, repeated calls of `.eval()`, and no `.train()` after them",
            why="Dropout no longer drops anything, and the running statistics of batch norm no longer change.",
            remedy="Call `model.train()` at the beginning of each epoch.",
        )


def _listed(parts: list[str]) -> str:
    return listed_names([part or "the network" for part in parts])


def _reading_their_mode(source: ScriptSource) -> set[str]:
    """The script's classes that call `F.dropout(x, p, self.training)`."""
    return {
        scope.name
        for site in source.calls(*_DROPOUTS)
        if any(part.attr == "training" for part in nodes_in(site.node, ast.Attribute))
        for scope in source.enclosing(site.node, ast.ClassDef)
    }


def _frozen(model: nn.Module, parts: list[str]) -> bool:
    """Whether all parts are batch norms whose weights are not trained: their statistics are to stay the same, too."""
    found = [list(model.get_submodule(name).parameters()) for name in parts]
    return all(weights and not any(weight.requires_grad for weight in weights) for weights in found)


def _begins_pass(source: ScriptSource, site: Site) -> bool:
    """Whether a call is before the training loop in a function without a loop around that: such a function is called
    once an epoch, whatever its name."""
    (file, first, last), function = source.loop, source.function_of(site.node)
    if function is None or site.file != file or not function.lineno <= site.node.lineno < first:
        return False
    around = [
        loop.lineno < first and (loop.end_lineno or first) >= last
        for loop in ast.walk(function)
        if isinstance(loop, ast.For | ast.While)
    ]
    return last <= (function.end_lineno or first) and not any(around)


def _comes_between_steps(source: ScriptSource, site: Site) -> bool:
    """Whether a loop that was running at the first step reaches a call, so that the training continues after it. The
    loop that repeats a call may belong to another training."""
    if source.library is not None or not source.calling:
        return True
    return site.node in source.repeated_around_step or source.function_of(site.node) in source.repeated_around_step


def _of_another_training(source: ScriptSource, site: Site) -> bool:
    """Whether a call is in a training loop other than the examined one and not around it, or in a function with such a
    loop."""
    file, first, last = source.loop

    def is_apart(part: ast.stmt) -> bool:
        return site.file != file or part.lineno > last or (part.end_lineno or part.lineno) < first

    function = source.function_of(site.node)
    loops = list(source.loops_of(site.node))
    if isinstance(function, ast.FunctionDef) and is_apart(function):
        loops += [part for part in ast.walk(function) if isinstance(part, ast.For | ast.While)]
    return any(
        is_apart(loop) and any(called(part) == "backward" for part in nodes_in(loop, ast.Call)) for loop in loops
    )


def _is_of_new_network(source: ScriptSource, site: Site) -> bool:
    """Whether its function creates the network again each time before the call, as for each of several trainings."""
    receiver, scope = receiver_of(site.node), source.function_of(site.node)
    if not isinstance(receiver, ast.Name) or scope is None:
        return False
    around = set(source.loops_of(site.node))
    return any(
        ast.unparse(target) == receiver.id
        and isinstance(value, ast.Call)
        and receiver.id not in names_in(value)
        and around <= set(source.loops_of(node))
        for node in ast.walk(scope)
        for target, value in assigned(node)
    )


def _modes(source: ScriptSource, model: nn.Module) -> tuple[list[Site], list[Site]]:
    """The calls that put the network into evaluation mode, and those that put it into training mode; `train(flag)` is
    both. A receiver of unknown value may be the network."""
    evaluating, training = [], []
    for site in source.calls("eval", "train"):
        receiver = source.value(receiver_of(site.node))
        if isinstance(site.node.func, ast.Name) or (receiver is not None and not isinstance(receiver, nn.Module)):
            continue
        if isinstance(receiver, nn.Module) and _is_another(receiver, model) and not _is_given_several(source, site):
            continue  # a teacher's, say
        mode = site.node.args[0] if site.node.args else None
        if called(site.node) == "eval" or mode is not None:
            evaluating.append(site)
        if called(site.node) == "train" and not (isinstance(mode, ast.Constant) and mode.value is False):
            training.append(site)
    return evaluating, training


def _is_given_several(source: ScriptSource, site: Site) -> bool:
    """Whether a call's receiver is a parameter for which calls of the function pass several networks, as teachers and
    their student."""
    receiver, function = receiver_of(site.node), source.function_of(site.node)
    if not isinstance(receiver, ast.Name) or function is None:
        return False
    arguments = [
        value
        for call in source.calls_of(function)
        for name, value in source.arguments(function, call.node)
        if name == receiver.id
    ]
    return len({ast.unparse(value) for value in arguments}) > 1


def _is_another(network: nn.Module, model: nn.Module) -> bool:
    """Whether a network has weights and shapes of its own. An average of the model's weights has the model's shapes."""
    own, others = (list(net.parameters()) for net in (network, model))
    ids = {id(weight) for weight in others}
    shares_none = bool(own) and not any(id(weight) in ids for weight in own)
    return shares_none and [weight.shape for weight in own] != [weight.shape for weight in others]


def _evaluation_loop(source: ScriptSource) -> ast.For | None:
    """A loop over validation or test data, without gradients, that runs a network."""
    for node in source.nodes(ast.For):
        if not any(source.runs_network(part) for part in ast.walk(node)):
            continue
        words = _words(node.iter)
        function = source.function_of(node)
        for site in source.calls_of(function) if function is not None else ():
            arguments = source.arguments(function, site.node)  # type: ignore[arg-type]
            words |= {word for name, value in arguments if name in words for word in _words(value)}
        around = [*source.enclosing(node), *ast.walk(node)]
        if any(word in name for name in words for word in _EVALUATION) and any(map(_without_gradients, around)):
            return node
    return None


def _run_without_gradients(source: ScriptSource) -> ast.FunctionDef | None:
    """A function that runs a network without gradients, and that the training loop does not call. In one with a block
    of its own for that, random inputs are left out, as for a generator whose samples are shown."""
    for node in source.nodes(ast.FunctionDef):
        blocks = [part for part in nodes_in(node, ast.With) if _without_gradients(part)]
        drawn = any(called(part).startswith("rand") for part in nodes_in(node, ast.Call)) or _DRAWS.search(node.name)
        runs_network = any(source.runs_network(part) for part in nodes_in(blocks))
        if _without_gradients(node) or (runs_network and not drawn):
            sites = source.calls_of(node)
            runs = any(_runs(source, part) or _calls_method(source, part) for part in ast.walk(node))
            if runs and sites and not any(_in_each_batch(source, site) for site in sites):
                return node
    return None


def _runs(source: ScriptSource, node: ast.AST) -> bool:
    """Whether a node runs a network, or calls a function of the user's that does."""
    within = source.functions_of(node) if isinstance(node, ast.Call) else []
    return source.runs_network(node) or any(map(source.runs_network, nodes_in(within)))


def _evaluated_at_once(source: ScriptSource) -> Iterator[ast.With]:
    """Blocks that run a network without gradients outside of a loop over batches, as on all nodes of a graph, and whose
    outputs the next lines use with a variable that is named for validation or test."""
    for node in source.nodes(ast.With):
        if not _without_gradients(node):
            continue
        outputs = [part for part in node.body if isinstance(part, ast.Assign) and source.runs_network(part.value)]
        names = {part.targets[0].id.lower() for part in outputs if isinstance(part.targets[0], ast.Name)}
        lines: list[ast.AST] = [*node.body]
        within: ast.AST = node
        for around in source.enclosing(node):
            body = getattr(around, "body", [])
            lines += body[body.index(within) + 1 :] if within in body else []
            within = around
            if not isinstance(around, ast.If):
                break
        measured = (words for words in map(_words, lines) if names & words)
        if any(part in _EVALUATION for words in measured for name in words for part in name.split("_")):
            yield node


def _still_training(source: ScriptSource, evaluating: list[Site], training: list[Site]) -> ast.With | None:
    """An evaluation in a function that puts the network into training mode before it and never ends that mode."""
    ends = {part for site in evaluating for part in (site.node, *source.enclosing(site.node))}
    for node in _evaluated_at_once(source):
        scope, around = source.scope_of(node), list(source.enclosing(node))
        calls = list(nodes_in(scope, ast.Call))
        run = {ast.unparse(part.func) for part in calls if node in source.enclosing(part) and source.runs_network(part)}
        put = [
            site.node.lineno < node.lineno
            and source.scope_of(site.node) is scope
            and all(part in around for part in source.enclosing(site.node) if isinstance(part, _BRANCHES))
            for site in training
            if (receiver := receiver_of(site.node)) is not None and ast.unparse(receiver) in run
        ]
        if any(put) and scope not in ends and not any(ends.intersection(source.functions_of(part)) for part in calls):
            return node
    return None


def _calls_method(source: ScriptSource, node: ast.AST) -> bool:
    """Whether a node calls a method of the user's network class with arguments: `model.encode(x)`."""
    method = source.value(node.func) if isinstance(node, ast.Call) and node.args else None
    return isinstance(getattr(method, "__self__", None), nn.Module) and not hasattr(nn.Module, called(node))


def _switched(source: ScriptSource) -> ast.AST | None:
    """A call such as `set_grad_enabled(train)` in a function that both trains and evaluates."""
    sites = [site for site in source.calls("set_grad_enabled") if site.node.args]
    return next((site.node for site in sites if not isinstance(site.node.args[0], ast.Constant)), None)


def _in_each_batch(source: ScriptSource, site: Site, depth: int = 3) -> bool:
    """Whether the training loop reaches a call with each batch, directly or through functions that make the call; not
    under a condition, as in every hundredth step."""
    if site.often != "batch":
        return False
    file, first, last = source.loop
    if site.file == file and first <= site.node.lineno <= last:
        tests = list(source.enclosing(site.node, ast.If))
        return not any(first <= test.lineno <= last for test in tests)
    function = source.function_of(site.node)
    calls = source.calls_of(function) if depth and isinstance(function, ast.FunctionDef) else []
    return not calls or any(_in_each_batch(source, call, depth - 1) for call in calls)


def _left_in_training(source: ScriptSource, evaluating: list[Site], model: nn.Module) -> ast.AST | None:
    """A loop over the phases of training and validation that puts the network into training mode in both; or a function
    that evaluates without gradients, where neither it nor its callers end training mode."""
    ends = {node for site in evaluating for node in (site.node, *source.enclosing(site.node))}
    for node in source.nodes():
        if isinstance(node, ast.For) and _phases(node) and node not in ends:
            alone = [part.value for part in node.body if isinstance(part, ast.Expr)]
            trains = any(called(part) == "train" and not part.args for part in alone if isinstance(part, ast.Call))
            if trains and any(source.runs_network(part) for part in ast.walk(node)):
                return node
        if not isinstance(node, ast.FunctionDef) or node in ends:
            continue
        if not _evaluates(node) and not _runs_on_batches(source, node):
            continue
        inside = list(ast.walk(node))
        if not any(source.runs_network(part) for part in inside) or _runs_another(source, node, model):
            continue
        helpers = [known for part in inside if isinstance(part, ast.Call) for known in source.functions_of(part)]
        calls = source.calls_of(node)
        switched = any(_comes_before(source, site, call) for site in evaluating for call in calls)
        if calls and not switched and not ends.intersection(helpers):
            return node
    return None


def _runs_another(source: ScriptSource, function: ast.FunctionDef, model: nn.Module) -> bool:
    """Whether a function runs another network, such as an average, which is in evaluation mode while the trained one is
    not."""
    made = {ast.unparse(target): node.value for node in nodes_in(function, ast.Assign) for target in node.targets}
    for node in nodes_in(function, ast.Call):
        found = source.value(made.get(ast.unparse(node.func), node.func))
        if isinstance(found, nn.Module) and found is not model and model.training and not found.training:
            return True
    return False


def _comes_before(source: ScriptSource, site: Site, call: Site) -> bool:
    """Whether a call comes before another one in the same function, or shares a loop with it."""
    if source.scope_of(site.node) is not source.scope_of(call.node):
        return False
    together = set(source.loops_of(site.node)) & set(source.loops_of(call.node))
    return bool(together) or site.node.lineno <= call.node.lineno


def _phases(loop: ast.For) -> bool:
    names = loop.iter.elts if isinstance(loop.iter, ast.List | ast.Tuple) else []
    values = [name.value for name in names if isinstance(name, ast.Constant)]
    return "train" in values and any(str(value).startswith(_EVALUATION) for value in values)


def _evaluates(function: ast.FunctionDef) -> bool:
    """Whether a function is named for an evaluation, and computes without gradients."""
    words = function.name.lower().split("_")
    named = any(word.startswith(("eval", "valid", "estimate")) or word in ("val", "test") for word in words)
    return named and (_without_gradients(function) or any(_without_gradients(part) for part in function.body))


def _runs_on_batches(source: ScriptSource, function: ast.FunctionDef) -> bool:
    """Whether a function runs a network on batches without gradients in each epoch. Functions that draw random inputs,
    as for a generator, or call `train`, as to measure the statistics of batch norm, are left out."""
    inside = list(ast.walk(function))
    loops = any(isinstance(part, ast.For | ast.comprehension) for part in inside)
    on_purpose = any(called(part).startswith("rand") or called(part) == "train" for part in inside)
    each_epoch = any(site.often == "epoch" for site in source.calls_of(function))
    return _without_gradients(function) and loops and each_epoch and not on_purpose


def _words(node: ast.AST) -> set[str]:
    """The variables and attributes in an expression."""
    return {last_name(part).lower() for part in ast.walk(node) if isinstance(part, ast.Name | ast.Attribute)}


def _without_gradients(node: ast.AST) -> bool:
    written: list[ast.expr] = []
    if isinstance(node, ast.FunctionDef):
        written = node.decorator_list
    elif isinstance(node, ast.With):
        written = [item.context_expr for item in node.items]
    return any(name in ast.unparse(part) for part in written for name in _NO_GRADIENTS)


MODE = Check(
    codes=("eval.mode",),
    run=_run,
    of_source=True,
)
