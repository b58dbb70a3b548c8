"""`data.target-in-input`: does the input already hold the target?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.call_graph import INPUT
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import by_position, class_losses, token_inputs
from striate.doctor.setup.batch import leaves, main_tensor, parts
from striate.records import Finding
from striate.wording import several

CODE = "data.target-in-input"
_SAME = 0.5
"""Share of the counted targets that are the input's own tokens; of masked language models none or a tenth are."""
_FEWEST, _MOST_VALUES = 64, 4096
_SUMS = ("add", "sub", "__add__", "__sub__", "__radd__", "__rsub__")
_LINEAR = 1e-6
"""What may be left of a target's variance once an input is subtracted, scaled: rounding leaves a tenth of that."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    yield from (
        list(_tokens(evidence)) or list(_words_given(evidence)) or list(_passed_on(evidence)) or _numbers(evidence)
    )


def _tokens(evidence: Evidence) -> Iterator[Finding]:
    """Targets of positions that are the input's tokens there."""
    inputs = list(token_inputs(evidence))
    for call in class_losses(evidence) if inputs else ():
        own = [(tokens, found) for _, _, tokens in inputs if (found := by_position(call, tokens)) is not None]
        # A tensor that is itself what the loss asks for, its targets, is no input, unless it is the only one.
        others = [pair for pair in own if len(own) == 1 or not torch.equal(pair[0], pair[1][0])]
        for tokens, (target, counted, short) in others or own[:1]:
            here = (target == tokens[:, : tokens.shape[1] - short])[counted]
            share = float(here.float().mean()) if len(here) else 0.0
            if len(here) < _FEWEST or len(target[counted].unique()) < 5 or share < _SAME:
                continue
            if short or not _given(evidence, tokens):
                continue
            yield _finding(
                f"{share:.0%} of the targets that count are the token that the input has at that position",
                "shift the targets, `inputs, targets = tokens[:, :-1], tokens[:, 1:]`; of masked tokens mask the input "
                "and count only those: `targets[~masked] = -100`",
            )
            return


def _words_given(evidence: Evidence) -> Iterator[Finding]:
    """Targets of positions that are the words which a decoder is given there, beside what it describes."""
    sequences = _sequences(evidence)
    for call in class_losses(evidence) if len(sequences) == 1 else ():
        target, given = call.target.detach().cpu(), sequences[0]
        if target.numel() != given.numel():
            continue
        counted = target.reshape(given.shape) != call.ignored
        same = (target.reshape(given.shape) == given)[counted]
        if len(same) < _FEWEST or len(given[counted].unique()) < 5 or float(same.float().mean()) < _SAME:
            continue
        yield _finding(
            f"{float(same.float().mean()):.0%} of the targets that count are the word that the network is given at "
            "that position",
            "give the words up to the last and ask for those from the second on: `words[:, :-1]` and `words[:, 1:]`",
        )
        return


def _sequences(evidence: Evidence) -> list[torch.Tensor]:
    """The sequences (samples, positions) of class numbers that the network is given."""
    found = [
        tensor.detach().cpu()
        for _, tensor in leaves(list(evidence.first.arguments))
        if tensor.ndim == 2 and not tensor.is_floating_point()
    ]
    return [tensor for tensor in found if len(tensor.unique()) > 2]


def _given(evidence: Evidence, tokens: torch.Tensor) -> bool:
    """Whether the network gets these tokens, and no other sequence beside them, as a decoder does."""
    sequences = _sequences(evidence)
    return not sequences or any(tensor.shape == tokens.shape and torch.equal(tensor, tokens) for tensor in sequences)


def _passed_on(evidence: Evidence) -> Iterator[Finding]:
    """Targets that are the inputs, of a network that adds its input to what it computes: nothing is left to compute."""
    for batch in evidence.train.raw:
        x, y = (main_tensor(part) for part in parts(batch))
        if x is None or y is None or x is y or x.ndim < 2 or not x.is_floating_point() or not torch.equal(x, y):
            return
    graph = evidence.predicting
    last = None if graph.end is None else graph.origin(graph.end)
    if last is None or last.name not in _SUMS or not any(i == INPUT or graph.origin(i) is None for i in last.inputs):
        return
    yield _finding(
        f"the targets are the inputs, number for number, and the network's last step is `{last.name.strip('_')}` with "
        "its input",
        "what is to be restored as the target, the input as it came: `return clean + sigma * noise, clean`",
    )


def _numbers(evidence: Evidence) -> Iterator[Finding]:
    """One number of the input that is the target, or the target scaled."""
    pairs = [(main_tensor(parts(batch)[0]), main_tensor(parts(batch)[1])) for batch in evidence.train.raw]
    known = [(x, y) for x, y in pairs if x is not None and y is not None and x is not y and x.ndim > 1 and y.ndim]
    if not known or not known[0][0].is_floating_point() or len({x.shape[1:] for x, _ in known}) != 1:
        raise NoEvidence("inputs and targets are no numbers beside each other")
    values = torch.cat([x.detach().cpu().flatten(1) for x, _ in known]).double()
    targets = torch.cat([y.detach().cpu().flatten(1) if y.ndim > 1 else y.detach().cpu()[:, None] for _, y in known])
    if targets.shape[1] != 1 or not 2 <= values.shape[1] <= _MOST_VALUES or len(values) < _FEWEST:
        raise NoEvidence("there is not one target a sample, or there are too few samples")
    wanted = targets[:, 0].double()
    if len(wanted.unique()) < 20 or values.shape[1] * 4 > len(values) * 100:
        raise NoEvidence("the targets take few values")
    values, wanted = values - values.mean(0), wanted - wanted.mean()
    spread = values.square().sum(0) * wanted.square().sum()
    left = 1 - (values * wanted[:, None]).sum(0).square() / spread.clamp(min=1e-300)
    left[spread <= 0] = 1.0
    place = int(left.argmin())
    if float(left[place]) > _LINEAR:
        return
    yield _finding(
        f"number {place} of the {several(values.shape[1], 'input number')} is the target, scaled: it leaves "
        f"{max(float(left[place]), 0.0):.1g} of the target's variance",
        f"leave it out of the inputs, `inputs = torch.cat([inputs[:, :{place}], inputs[:, {place + 1}:]], 1)`; of a "
        "window the target comes after its end: `series[i : i + n]` and `series[i + n]`",
    )


def _finding(measured: str, remedy: str) -> Finding:
    return Finding(
        code=CODE,
        severity="error",
        where="the training batches",
        measured=measured,
        threshold=TARGET_IN_INPUT.threshold,
        why="The network has only to copy: the loss says nothing of what it does where the answer is not given.",
        remedy=remedy,
    )


TARGET_IN_INPUT = Check(
    codes=(CODE,),
    question="Does the input already hold the target?",
    threshold=f"{_SAME:.0%} of the counted tokens are the input's at the same position; or one number of the input "
    f"leaves {_LINEAR:g} of the variance of targets that take 20 values or more; or all inputs are their targets, and "
    "the network adds its input to its output",
    run=_run,
    explains="model.batch-mixing fit.* data.leak speed.small-batch",
)
