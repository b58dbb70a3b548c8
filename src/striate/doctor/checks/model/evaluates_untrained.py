"""`model.evaluates-untrained`: is what is evaluated what is trained, or an average of it that follows?"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.never_updated import (
    averages_of_weights_alone,
    averages_renamed,
    evaluated_and_left,
    in_idle_method,
    share_followed,
)
from striate.doctor.checks.model.origins import are_untrained
from striate.doctor.checks.model.other_networks import evaluated_instead
from striate.doctor.checks.model.variants import asked
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.rates import passes_planned
from striate.doctor.evidence.trial import FEWEST_TO_JUDGE, Change, Trial
from striate.doctor.evidence.trial_variants import unmoved
from striate.doctor.setup.reached_objects import reached_objects
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.script_source import ScriptSource, assigned, called
from striate.doctor.setup.training_setup import Step, TrainingSetup
from striate.models.preserved_state import preserved
from striate.observe.module_calls import forward_hooks_everywhere
from striate.records import Finding
from striate.wording import listed_names, several

CODE = "model.evaluates-untrained"
_Kept = list[tuple[Any, dict[str, torch.Tensor]]]
"""Copies of a network, each with its tensors before a trial."""
_Copies = Callable[[Replica], Iterator[tuple[Any, dict[str, torch.Tensor]]]]
_FOLLOWED, _NEAR = 0.5, 0.5
_FOLLOWED_LATER = 0.25
"""Of averages that follow at first: less, since what they have then is worth something, and an even average of all
steps goes 63 % of the way."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    trial = evidence.trial
    if len(trial.rows) < FEWEST_TO_JUDGE or len(unmoved(trial)) == len(trial.replica.originals):
        raise NoEvidence(f"fewer than {FEWEST_TO_JUDGE} steps, or no step that changes a weight")
    found = list(_other_in_evaluation(evidence)) or list(_averages_left(evidence))
    found = found or list(_copies_left_behind(evidence))
    yield from found or _never_updated(evidence)


def _read(evidence: Evidence) -> Iterator[Finding]:
    """What code tells, of trainings that there is no time to try for long."""
    if len(unmoved(evidence.trial)) < len(evidence.trial.replica.originals):
        yield from _never_updated(evidence)


def _other_in_evaluation(evidence: Evidence) -> Iterator[Finding]:
    """Weights that only evaluation uses, that no step changes, and that look untrained or are copies."""
    only = evidence.predicting.used - evidence.graph.used_by_loss
    parameters = dict(evidence.setup.model.named_parameters())
    names = [name for name in unmoved(evidence.trial) if name in only and parameters[name].ndim > 1]
    if not names or not (are_untrained(evidence.fresh.model, set(names)) or _are_copies(parameters, names)):
        return
    numbers = sum(parameters[name].numel() for name in names)
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    yield CHECK.finding(
        severity="error",
        where=listed_names(layers),
        measured=f"in evaluation mode the network uses {several(numbers, 'weight')} of {listed_names(layers)} that the "
        f"training loss does not use: after {several(len(evidence.trial.rows), 'step')} they are unchanged",
        limit="weights that evaluation uses, but that the training loss does not use and no step changes, and that "
        "look as initialized or are copies",
        why="The weights that are evaluated have learned nothing.",
        remedy=f"evaluate the layers that are trained; or, for an average, {_averaged('ema')}",
    )


def _averages_left(evidence: Evidence) -> Iterator[Finding]:
    """Buffers that began as copies of weights, which evaluation uses and no step changes, though the weights move."""
    model, trial = evidence.fresh.model, evidence.trial
    ended, still = dict(trial.replica.model.named_buffers()), unmoved(trial)
    moving = [parameter for name, parameter in model.named_parameters() if name not in still]
    left = [
        name
        for name, buffer in model.named_buffers()
        if buffer.is_floating_point()
        and bool((buffer != buffer.flatten()[:1]).any())  # ones are the weights of a normalization, too
        and name in ended
        and torch.equal(ended[name], buffer)
        and any(own.shape == buffer.shape and torch.equal(own, buffer) for own in moving)
    ]
    if not left:
        return
    with preserved(model), torch.no_grad():
        own = asked(evidence, evidence.train.raw[0])
        for name in left:
            model.get_buffer(name).add_(1.0)
        changed = asked(evidence, evidence.train.raw[0])
    if own.shape != changed.shape or not torch.equal(own, changed):
        yield CHECK.finding(
            severity="error",
            where=listed_names(left),
            measured="buffers that are copies of weights determine the predictions in evaluation mode: after "
            f"{several(len(trial.rows), 'step')} they are unchanged, but the weights have moved",
            limit="buffers that began as copies of weights, which evaluation uses and no step changes",
            why="The buffers that are evaluated have learned nothing.",
            remedy="write the average into the buffer, within `torch.no_grad()`: `average.mul_(decay).add_(weight, "
            "alpha=1 - decay)`; `average = ...` only assigns a variable",
        )


def _averaged(name: str) -> str:
    """How an average of the network follows it; `ema` where the name is none."""
    name = name if name.isidentifier() else "ema"
    return (
        f"update it after `optimizer.step()`: `{name} = torch.optim.swa_utils.AveragedModel(model, "
        "multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))` once, and "
        f"`{name}.update_parameters(model)` in each step"
    )


def _are_copies(parameters: Mapping[str, torch.Tensor], names: list[str]) -> bool:
    others = [tensor for name, tensor in parameters.items() if name not in names]
    return all(
        any(tensor.shape == parameters[name].shape and torch.equal(tensor, parameters[name]) for tensor in others)
        for name in names
    )


def _never_updated(evidence: Evidence) -> Iterator[Finding]:
    """Copies that evaluation runs and no line of the script changes."""
    if evidence.setup.source is None:
        return
    if (late := _begins_too_late(evidence.source)) is not None:
        yield late
        return
    for network, line, where in averages_renamed(evidence.source):
        if evidence.source.value(network) is evidence.setup.model:
            continue
        name = ast.unparse(network)
        yield CHECK.finding(
            severity="error",
            where=where,
            measured=f"`{ast.unparse(line)}` assigns the average to a variable of the loop, not to the tensors of "
            f"`{name}`",
            limit="an average that a loop over tensors assigns to its variable",
            why="The average keeps its initial weights and contains nothing of the training.",
            remedy=f"write into the tensor: `{ast.unparse(line.targets[0])}.copy_({ast.unparse(line.value)})`, within "
            "`torch.no_grad()`",
        )
        return
    for name, where in evaluated_and_left(evidence):
        yield CHECK.finding(
            severity="warning",
            where=where,
            measured=f"`{name}` is evaluated, but it is another network than the trained one, or a copy of it from "
            "before training, and no code changes it",
            limit="a copy of the network that is evaluated and that no code changes, while steps change the network",
            why="The network that is evaluated has learned nothing.",
            remedy=f"evaluate the network that is trained; or, for an average, {_averaged(name)}",
        )
        return
    for name, trained, where in evaluated_instead(evidence):
        yield CHECK.finding(
            severity="warning",
            where=where,
            measured=f"the loop around the training loop runs `{name}`, which is not trained, and never `{trained}`, "
            "which is",
            limit="a loop around the training loop that runs another network and not the trained one",
            why="The results of this network say nothing about the trained one.",
            remedy=f"use `{trained}` in place of `{name}` there",
        )
        return
    yield from _made_later_without_buffers(evidence)


def _begins_too_late(source: ScriptSource) -> Finding | None:
    """An average that is updated from an epoch on that never comes."""
    for site in source.calls("update_parameters") if source.epochs else ():
        for test in (part.test for part in source.around(site.node) if isinstance(part, ast.If)):
            if not isinstance(test, ast.Compare) or len(test.ops) != 1 or "epoch" not in ast.unparse(test.left):
                continue
            begins = source.value(test.comparators[0])
            if type(begins) is not int or not isinstance(test.ops[0], ast.Gt | ast.GtE):
                continue
            if begins + isinstance(test.ops[0], ast.Gt) >= (source.epochs or 0):
                return CHECK.finding(
                    severity="error",
                    where=site.where,
                    measured=f"`{site.text}` is under `if {ast.unparse(test)}`, where the limit is {begins}, but there "
                    f"are only {several(source.epochs or 0, 'epoch')}: it never runs",
                    limit="an average that starts only after the script's last epoch",
                    why="The average keeps its initial weights and contains nothing of the training.",
                    remedy="start the average within the training, such as at three quarters of its epochs",
                )
    return None


def _too_slow(evidence: Evidence, trial: Trial, kept: _Kept) -> Iterator[Finding]:
    """Averages that will not have come to the network's weights by the end of training."""
    steps = sum(row.steps for row in trial.rows)
    planned = passes_planned(evidence) * steps / max(len(trial.rows), 1)
    for thing, before in kept:
        share = _share(thing, before, trial)
        if share is None or not share or not steps or planned <= 0:
            continue
        followed = 1 - (1 - min(share, 1.0)) ** (planned / steps)
        if followed < _FOLLOWED:
            yield CHECK.finding(
                severity="warning",
                where="the training step",
                measured=f"in {several(steps, 'step')} an average of the network's weights ({type(thing).__name__}) "
                f"has gone {share:.2g} of the way to them, which makes {followed:.1%} after all {planned:.0f}",
                limit=f"less than {_FOLLOWED:.0%} of the way to the network's weights by the end",
                why="Its decay suits a training of many more steps: if the average is evaluated, it contains hardly "
                "anything that was learned.",
                remedy=f"use a decay that forgets the initial weights within the training, such as {_decay(planned):g}",
            )
            return


def _too_slow_later(evidence: Evidence, trial: Trial, kept: _Kept, copies: _Copies) -> Iterator[Finding]:
    """Averages that follow at these steps, as those that copy the weights at first, of objects that count them: whether
    they hardly follow where half of the training is over by that count."""
    planned, done = passes_planned(evidence), len(trial.rows)
    followed = [thing for thing, before in kept if _share(thing, before, trial)]
    began = dict(_counts_beside(evidence.fresh, [thing for thing, _ in copies(evidence.fresh)]))
    ended = _counts_beside(trial.replica, followed)
    counting = {key for key, count in ended if key in began and count - began[key] == done}
    if planned <= 2 * done or not counting:
        return
    noted: _Kept = []

    def prepare(replica: Replica) -> None:
        for owner in reached_objects((replica.step,)):
            for name in [name for kind, name in counting if kind is type(owner)]:
                setattr(owner, name, int(planned / 2))
        noted.extend(_noted(copies(replica)))

    later = evidence.variant("with averages half-way", Change(prepare=prepare, notes=noted))
    steps = len(later.rows)
    for thing, before in later.notes if later.error is None and steps else ():
        share = _share(thing, before, later)
        if share and (in_all := 1 - (1 - min(share, 1.0)) ** (planned / steps)) < _FOLLOWED_LATER:
            yield CHECK.finding(
                severity="warning",
                where="the training step",
                measured=f"an average of the network's weights ({type(thing).__name__}) follows them at first; but in "
                f"{several(steps, 'step')} with its count at half of the training it has gone {share:.2g} of the way "
                f"to them, which makes {in_all:.1%} in as many steps as the whole training has, {planned:.0f}",
                limit=f"less than {_FOLLOWED_LATER:.0%} of the way to the network's weights, by the rate at half of "
                "the training",
                why="Its decay suits a training of many more steps: if the average is evaluated, it contains hardly "
                "anything that was learned after the beginning.",
                remedy=f"use a decay that forgets old weights within the training, such as {_decay(planned):g}",
            )
            return


def _counts_beside(replica: Replica, things: list[Any]) -> Iterator[tuple[tuple[type, str], int]]:
    """The whole numbers that objects of the user's hold which hold one of these copies, too: by class and name."""
    wanted = {id(thing) for thing in things}
    for owner in reached_objects((replica.step,)):
        held = vars(owner) if hasattr(owner, "__dict__") and not isinstance(owner, nn.Module) else {}
        if any(id(value) in wanted for value in held.values()):
            yield from (((type(owner), name), value) for name, value in held.items() if type(value) is int)


def _noted(copies: Iterable[tuple[Any, dict[str, torch.Tensor]]]) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
    """The copies with their tensors as they are now."""
    for found, tensors in copies:
        yield found, {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _share(thing: Any, before: dict[str, torch.Tensor], trial: Trial) -> float | None:
    """How much of the way to the network's weights a copy has gone in a trial."""
    return share_followed(before, named_tensors(thing, before), trial.replica.model)


def _decay(steps: float) -> float:
    """What forgets all but a hundredth within a tenth of the steps, or ten."""
    return round(math.pow(0.01, 1 / max(steps / 10, 10)), 4)


def _updated_by_epoch(evidence: Evidence, average: Any) -> bool:
    """Whether it is an average that the script, where there is one, updates, though no step does."""
    source = evidence.setup.source
    return (
        source is not None
        and isinstance(average, nn.Module)
        and hasattr(average, "update_parameters")
        and any(
            isinstance(site.node.func, ast.Attribute) and not in_idle_method(source, site.node.func)
            for site in source.calls("update_parameters")
        )
    )


def _copies_left_behind(evidence: Evidence) -> Iterator[Finding]:
    """Copies of the network that the step's code names, and neither runs nor changes."""
    reached = list(reached_objects((evidence.setup.step,)))
    theirs = {id(thing) for thing in reached if isinstance(thing, nn.Module)}
    saved = _show_modules(reached) or _are_kept_anew(evidence.setup.source)
    chosen = _are_chosen(evidence.setup)

    def copies(replica: Replica) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
        found = copies_reached(replica, theirs)
        return (
            (thing, tensors)
            for thing, tensors in found
            if not (saved if hasattr(thing, "_metadata") else chosen and isinstance(thing, dict))
        )

    if evidence.setup.own_step or not list(copies(evidence.fresh)):
        return
    kept: _Kept = []
    statistics: _Kept = []
    ran: set[int] = set()

    def prepare(replica: Replica) -> None:
        for found, tensors in _noted(copies(replica)):
            kept.append((found, tensors))
            if not isinstance(found, list):
                statistics.append((found, {name: mean.clone() for name, mean in _means(found).items()}))

    def wrap(step: Step) -> Step:
        def watched(*given: Any) -> Any:
            with forward_hooks_everywhere(lambda part, _: ran.add(id(part))):
                return step(*given)

        return watched

    change = Change(prepare=prepare, wrap=wrap, notes=(kept, statistics, ran))
    trial = evidence.variant("with copies watched", change)
    kept, statistics, ran = trial.notes
    averages = [found for found, _ in kept if _updated_by_epoch(evidence, found)]
    by_epoch = {id(part) for average in averages for part in average.modules()}
    named = {id(found) for found, _ in copies(trial.replica)}  # a pure function gives a new one in its stead
    still = [
        found
        for found, before in kept
        if id(found) in named - ran - by_epoch
        and all(torch.equal(before[name], t) for name, t in named_tensors(found, before).items() if name in before)
    ]
    if trial.error is not None:
        return
    if not still:
        aside = [(found, before) for found, before in kept if id(found) not in ran]
        found = list(_too_slow(evidence, trial, aside)) or list(_without_buffers(evidence, trial, statistics))
        yield from found or _too_slow_later(evidence, trial, aside, copies)
        return
    kind = type(still[0]).__name__
    yield CHECK.finding(
        severity="warning",
        where="the training step",
        measured=f"the step's code refers to a copy of the network ({kind}) that no step uses or changes: after "
        f"{several(len(trial.rows), 'step')} it is unchanged",
        limit=f"a copy of the network that the step refers to and in {FEWEST_TO_JUDGE} steps neither runs nor changes",
        why="If the copy is evaluated or saved, it contains nothing of the training.",
        remedy=_averaged("ema"),
    )


def _are_kept_anew(source: ScriptSource | None) -> bool:
    """Whether a variable that holds a module's state is given another one elsewhere, or in a loop where a condition
    holds, as the best so far; or a method keeps one when it is called."""
    if source is None:
        return False
    states = {name for name, value in _dicts_by_name(source) if hasattr(value, "_metadata")}
    stores = [(target, value) for node in source.nodes(ast.Assign) for target, value in assigned(node)]
    named = [target for target, _ in stores if isinstance(target, ast.Name) and target.id in states]
    if len(named) > len({target.id for target in named}) or any(_is_chosen(source, target) for target in named):
        return True
    return any(
        isinstance(target, ast.Attribute)
        and any(called(part) == "state_dict" for part in ast.walk(value))
        and getattr(source.function_of(target), "name", "__init__") != "__init__"
        for target, value in stores
    )


def _are_chosen(setup: TrainingSetup) -> bool:
    """Whether all variables that hold tensors of the network by name, `{k: v.clone() for k, v in state.items()}`, are
    the best so far."""
    if setup.source is None:
        return False
    source, names = setup.source, {name for name, _ in setup.model.named_parameters()}
    held = {name for name, v in _dicts_by_name(source) if names <= v.keys() and not hasattr(v, "_metadata")}
    stores = [t for node in source.nodes(ast.Assign) for t, _ in assigned(node) if isinstance(t, ast.Name)]
    return bool(held) and held <= {target.id for target in stores if _is_chosen(source, target)}


def _dicts_by_name(source: ScriptSource) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The dictionaries that variables hold, also within another, as the weights in a checkpoint."""
    for name, value in source.names.items():
        held = [value, *value.values()] if isinstance(value, dict) else []
        yield from ((name, found) for found in held if isinstance(found, dict))


def _is_chosen(source: ScriptSource, name: ast.Name) -> bool:
    """Whether a variable is given its value again and again, under a condition; not once, `if ema is None`."""
    for part in source.around(name):
        if isinstance(part, ast.For | ast.While | ast.FunctionDef):
            return False
        if isinstance(part, ast.If) and ast.unparse(part.test) not in (f"{name.id} is None", f"not {name.id}"):
            return bool(source.loops_of(part))
    return False


def _show_modules(reached: list[Any]) -> bool:
    """Whether dictionaries of a module's state are among them that are its own memory, as in a checkpoint: they follow
    the module, and are none of their own."""
    held = {p.data_ptr() for thing in reached if isinstance(thing, nn.Module) for p in thing.parameters()}
    states = (thing.values() for thing in reached if isinstance(thing, dict) and hasattr(thing, "_metadata"))
    return any(isinstance(value, torch.Tensor) and value.data_ptr() in held for state in states for value in state)


_WITH_BUFFERS = (
    "average the buffers too, or copy them: `for a, b in zip(ema.buffers(), model.buffers()): a.copy_(b)`; with "
    "`AveragedModel`, `use_buffers=True`, or `torch.optim.swa_utils.update_bn(loader, ema)` before evaluation"
)


def _without_buffers(evidence: Evidence, trial: Trial, kept: _Kept) -> Iterator[Finding]:
    """Averages of the weights whose batch norms keep the statistics that they began with."""
    source = evidence.setup.source
    if source is None or source.calls("update_bn"):
        return
    own = _means(trial.replica.model)
    for thing, before in kept:
        if isinstance(thing, dict) and not source.calls("load_state_dict", "functional_call"):
            continue  # only its weights are used, perhaps
        now = _means(thing)
        stale = [name for name, mean in now.items() if torch.equal(mean, before[name])]
        if not stale or len(stale) < len(now) or any(torch.equal(own[n], now[n]) for n in stale if n in own):
            continue
        yield Finding(
            code=CODE,
            severity="warning",
            where="the training step",
            measured=f"an average of the network's weights ({type(thing).__name__}) follows them, but the running "
            f"means and variances of its {several(len(stale), 'batch norm')} are unchanged after "
            f"{several(len(trial.rows), 'step')}",
            threshold="running means of an average that stay, while those of the network change",
            why="In evaluation its batch norms use the statistics of an untrained network.",
            remedy=_WITH_BUFFERS,
        )
        return


def _made_later_without_buffers(evidence: Evidence) -> Iterator[Finding]:
    """The same of averages that are made after the first steps, by their code."""
    setup, began, ended = evidence.setup, _means(evidence.fresh.model), _means(evidence.trial.replica.model)
    if all(torch.equal(ended[name], mean) for name, mean in began.items()):
        return
    theirs = {id(thing) for thing in reached_objects((setup.step,)) if isinstance(thing, nn.Module)}
    if any(copies_reached(evidence.fresh, theirs)):
        return  # they are watched in a trial
    for name, where in averages_of_weights_alone(evidence.source, setup.model):
        yield CHECK.finding(
            severity="warning",
            where=where,
            measured=f"`{name}` follows the parameters of the network, and nothing gives it the running means and "
            f"variances of its {several(len(began), 'batch norm')}, which change in training",
            limit="a copy in evaluation mode that follows the parameters of a network, and nothing but these",
            why="In evaluation its batch norms use the statistics of the network from which it was copied.",
            remedy=_WITH_BUFFERS,
        )
        return


def _means(thing: nn.Module | dict[Any, Any]) -> dict[str, torch.Tensor]:
    """The running means of batch norms, by name without `module.` before it."""
    pairs = thing.named_buffers() if isinstance(thing, nn.Module) else thing.items()
    named = ((str(name).removeprefix("module."), buffer) for name, buffer in pairs)
    return {name: b for name, b in named if isinstance(b, torch.Tensor) and name.endswith("running_mean")}


def copies_reached(replica: Replica, theirs: set[int]) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
    """What the step's code reaches that has tensors of the network's names and shapes, beside the network; not the
    user's own (`theirs`), which methods still know by a name."""
    shapes = {name: tensor.shape for name, tensor in replica.model.named_parameters()}
    own = {id(part) for part in replica.model.modules()}
    for thing in reached_objects((replica.step,)):
        if id(thing) in own | theirs or not isinstance(thing, nn.Module | dict | list):
            continue
        tensors = named_tensors(thing, shapes)
        if isinstance(thing, list) and not _near_weights(tensors, replica.originals):
            continue  # gradients, offsets
        if any(tensor is replica.originals.get(name) for name, tensor in tensors.items()):
            continue
        if shapes and all(name in tensors and tensors[name].shape == shape for name, shape in shapes.items()):
            yield thing, tensors


def named_tensors(thing: Any, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """By name, without the `module.` that averages and wrappers put before it; what is listed has the `names` of the
    network's parameters, in order."""
    if isinstance(thing, list):
        known = list(names)
        return dict(zip(known, thing, strict=True)) if _are_listed(thing, len(known)) else {}
    pairs = thing.named_parameters() if isinstance(thing, nn.Module) else thing.items()
    return {str(name).removeprefix("module."): value for name, value in pairs if isinstance(value, torch.Tensor)}


def _near_weights(tensors: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether matrices and kernels are about those of the network, as a copy from before some steps is."""
    pairs = [(tensors[name], weight) for name, weight in weights.items() if name in tensors and weight.ndim > 1]
    return any(tensor.shape == w.shape and float((tensor - w).norm()) < _NEAR * float(w.norm()) for tensor, w in pairs)


def _are_listed(thing: list[Any], count: int) -> bool:
    return len(thing) == count and all(isinstance(part, torch.Tensor) for part in thing)


_QUESTION = "Does evaluation use the network that is trained, or an average that follows it?"
_EXPLAINS = "model.unused-parameters model.frozen-parameters data.shift data.label-map fit.overfit fit.underfit"
READ = Check(
    codes=(CODE,),
    question=_QUESTION,
    run=_read,
    of_source=True,
    explains=_EXPLAINS,
)
CHECK = Check(
    codes=(CODE,),
    question=_QUESTION,
    run=_run,
    quick=False,
    explains=_EXPLAINS,
)
