"""`model.graph-detached`: is the way back from the loss to the parameters cut somewhere?"""

from __future__ import annotations

from collections.abc import Iterator

from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.origins import are_untrained
from striate.doctor.checks.model.remedies import said, tried
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.flow import PRODUCTS, Call, Flow
from striate.doctor.evidence.trial_variants import first_argument, replaced
from striate.records import Finding
from striate.wording import listed

CODE = "model.graph-detached"
_NO_GRAPH = ("does not require grad and does not have a grad_fn", "Inference tensors cannot be saved for backward")
_LEAVES_TORCH = ("numpy", "tolist", "item", "__array__")
SHARE = 0.05
"""Of the numbers to learn: less than that cut off costs little."""


def run(evidence: Evidence) -> Iterator[Finding]:
    model, flow = evidence.patient.model, evidence.flow
    wanting = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    used = wanting & flow.used
    if not used:
        return
    if flow.error is not None and any(text in str(flow.error) for text in _NO_GRAPH):
        yield _all_cut(flow, f"backward fails: {str(flow.error).partition('.')[0][:120]}")
    elif flow.error is None and flow.backward and evidence.trial.rows:
        gradients = evidence.first.gradients
        without = {name for name in used if gradients.get(name) is None} - evidence.trial.changed
        if without == used:
            yield _all_cut(flow, f"backward runs, but none of {len(used)} parameters gets a gradient")
        elif without:
            yield from _partly(evidence, flow, without)


def _all_cut(flow: Flow, measured: str) -> Finding:
    cut = _last_cut(flow, None)
    if cut is not None and _is_off(cut):
        where = cut.place
        fix = "Take `with torch.no_grad():` (or `torch.inference_mode()`) away from where the network is trained."
        said_where = f"gradients are switched off where {cut.name} runs in {where}"
    elif cut is not None:
        where, said_where = (
            cut.place,
            f"the last call that gets something with a gradient and gives none is {_call(cut)}",
        )
        fix = f"Remove {_call(cut)}: give the loss the tensor itself, and call `loss.backward()` on what it returns."
    else:
        where, said_where = "the loss", "the loss is made of a number, not of the outputs"
        fix = "Call `loss.backward()` on what the loss function returns; no `.item()`, `.data` or `torch.tensor(loss)`."
    return Finding(
        code=CODE,
        severity="error",
        where=where,
        measured=f"{measured}; {said_where}",
        threshold="a gradient for each parameter that takes part",
        why="Without its history, the loss does not know the parameters: nothing is learned.",
        remedy=fix,
    )


def _partly(evidence: Evidence, flow: Flow, names: set[str]) -> Iterator[Finding]:
    """Some parameters take part, and their gradient is lost on the way."""
    if flow.root is None:
        return
    behind = flow.before(flow.root)
    found: dict[str, Call] = {}
    for name in sorted(names):
        users = [call.index for call in flow.calls if name in call.parameters]
        cut = _last_cut(flow, users)
        if cut is not None and (cut.index in behind or _leaves(flow, cut)):
            found[name] = cut
    model, optimizer = evidence.patient.model, evidence.patient.optimizer
    parameters = dict(model.named_parameters())
    if isinstance(optimizer, Optimizer):
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        found = {name: cut for name, cut in found.items() if id(parameters[name]) in held}
    if not found:
        return
    numbers = sum(parameters[name].numel() for name in found)
    share = numbers / max(sum(p.numel() for p in parameters.values() if p.requires_grad), 1)
    fresh = are_untrained(evidence.fresh.model, set(found))
    cut = next(reversed(list(found.values())))
    yield _some_cut(evidence, cut, list(found), numbers, share, fresh)


def _some_cut(evidence: Evidence, cut: Call, names: list[str], numbers: int, share: float, fresh: bool) -> Finding:
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    off = _is_off(cut)
    detaches = cut.name in ("detach", "data")
    remedy = tried(evidence, "not detached", replaced((cut,), first_argument)) if detaches else None
    known = evidence.patient.compares
    loud = "error" if known and share >= SHARE else "warning"
    how = f"gradients are switched off where {cut.name} runs in {cut.place}" if off else f"they end at {_call(cut)}"
    return Finding(
        code=CODE,
        severity="note" if not fresh else "error" if loud == "error" else "warning",
        where=cut.place,
        measured=f"{listed(layers)} take part, want a gradient and are given to the optimizer, but get none "
        f"({numbers:,} numbers, {share:.0%} of all): {how}{said(remedy, f'without the {cut.name}')}",
        threshold="a gradient for each parameter that takes part and is given to the optimizer",
        why="What lies before the cut stays as it was initialized."
        if fresh
        else "What lies before the cut looks trained: if it is to stay so, leave it out of the optimizer.",
        remedy=f"Take `torch.no_grad()` away from {cut.place}." if off else f"Remove {_call(cut)}.",
    )


def _is_off(cut: Call) -> bool:
    """Whether gradients were switched off there: a call that takes a parameter gives one else."""
    return bool(cut.parameters) or cut.name in PRODUCTS


def _last_cut(flow: Flow, users: list[int] | None) -> Call | None:
    """The last call that takes something with a gradient and gives none, on the way of the batch through the network,
    behind the calls `users`. Numbers taken out of the finished loss are not meant."""
    end = len(flow.calls) if flow.root is None or users is None else flow.root + 1
    cuts = [
        call
        for call in flow.calls[:end]
        if call.takes_gradient and not call.gives_gradient and call.from_batch and not _looks(flow, call)
    ]
    if users is not None:
        cuts = [call for call in cuts if flow.before(call.index) & set(users)]
    elif flow.root is not None:
        behind = flow.before(flow.root)
        cuts = [call for call in cuts if call.index in behind] or cuts
    return cuts[-1] if cuts else None


def _looks(flow: Flow, call: Call) -> bool:
    """Whether a call outside of the network only looks at a number, as for a display."""
    return call.name in ("backward", *_LEAVES_TORCH) and not call.inside and call.index != flow.root


def _leaves(flow: Flow, cut: Call) -> bool:
    """Whether a tensor leaves torch within the network, at or behind a cut: what comes back has no known maker."""
    return any(
        call.name in _LEAVES_TORCH and call.inside and (call is cut or cut.index in flow.before(call.index))
        for call in flow.calls[cut.index :]
    )


def _call(call: Call) -> str:
    written = {"data": "`.data`", "numpy": "`.numpy()`", "detach": "`.detach()`", "item": "`.item()`"}
    return f"{written.get(call.name, f'`{call.name}`')} in {call.place}"


CHECK = Check(
    codes=(CODE,),
    question="Is the way back from the loss to the parameters cut somewhere?",
    threshold="a parameter that takes part, wants a gradient, is given to the optimizer and gets none: by definition",
    run=run,
    explains=(
        "loss.degenerate model.collapsed model.frozen-parameters model.redundant-filters "
        "model.unused-parameters model.vanishing-gradient optim.gradient-wrong optim.lr-too-low optim.no-step "
        "optim.parameters-missing fit.*"
    ),
)
