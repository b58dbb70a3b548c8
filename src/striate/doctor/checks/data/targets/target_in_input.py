"""`data.target-in-input`: does the input already contain the target?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.inputs.scrambled import roughness
from striate.doctor.checks.data.targets.noise_in_place import noise_in_both
from striate.doctor.checks.data.targets.numbered_rows import numbered_rows
from striate.doctor.checks.data.targets.revealing_columns import (
    LINEAR,
    RevealedTarget,
    columns_given,
    revealed_durations,
    revealed_first_time,
    revealed_numbers,
    unexplained_by_each,
)
from striate.doctor.checks.model.sees_future import CHANGED, outputs_moved
from striate.doctor.evidence.call_graph import INPUT, NORMAL, SUMS, Call, CallGraph
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.padding import padding_value
from striate.doctor.evidence.token_targets import by_position, class_losses, token_inputs
from striate.doctor.setup.batch import leaves, main_tensor, parts
from striate.records import Finding, Severity
from striate.wording import percent, several

CODE = "data.target-in-input"
_SAME = 0.5
"""The least share of counted targets that are the input tokens; for masked language models it is 0 or 0.1."""
_FEWEST = 64
_RELATED, _ROUGH = 0.2, 0.7
"""The least correlation; and the least mean difference of neighbors, in standard deviations (1.13 for noise, 0.2 for
images)."""
_PLACES = 6
"""The most positions whose outputs are compared: a decoder may get its own predictions at some."""
_SAME_TOKENS = (
    f"{percent(_SAME, 0)} of the targets that count, without padding, are the input tokens at the same position"
)
_CORRELATED, _FEWEST_ROUGH = 0.9, 8
"""The least correlation of noise levels with second differences, and the fewest samples."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    yield from (
        list(_changed_by_reading(evidence))
        or list(_noise_in_both(evidence))
        or list(_tokens(evidence))
        or list(_decoder_gets_targets(evidence))
        or list(_fed_back(evidence))
        or list(_residual_of_input(evidence))
        or list(_reproduces_input(evidence))
        or list(_hole_not_cut(evidence))
        or list(_given_to_loss(evidence))
        or list(_revealed(revealed_durations(evidence)))
        or list(_revealed(revealed_first_time(evidence)))
        or list(_revealed(numbered_rows(evidence)))
        or _revealed(revealed_numbers(evidence))
    )


def _changed_by_reading(evidence: Evidence) -> Iterator[Finding]:
    """Inputs and targets that share memory, and that reading changes in place."""
    changed = evidence.changed_by_reading
    if changed is not None and changed.same:
        yield _finding(
            f"input and target of {several(changed.read, 'sample')} are the same numbers, and reading them changes "
            f"the stored values of {changed.changed} of them",
            "change a copy of the target: `noisy = clean + noise`, or `noisy = clean.clone()` before `noisy += noise`",
            limit="reading samples changes their stored values, and target and input are the same",
        )


def _noise_in_both(evidence: Evidence) -> Iterator[Finding]:
    """Inputs and targets that are equal, because code adds noise in place and gives the changed tensor a second
    name."""
    if (found := noise_in_both(evidence)) is not None:
        line, changed, other = found
        yield _finding(
            f"input and target are the same numbers in all batches: line {line} adds random numbers to `{changed}` "
            f"in place, and `{other}` is another name for it",
            f"add noise to a copy: `{other} = {changed} + noise`, or `{changed}.clone()` there",
            limit="input and target are the same in all batches, and both names refer to a tensor to which random "
            "numbers are added in place, such as `noisy = clean.add_(noise)`",
        )


def _tokens(evidence: Evidence) -> Iterator[Finding]:
    """Targets that are the input tokens at the same positions."""
    inputs = list(token_inputs(evidence))
    for call in class_losses(evidence) if inputs else ():
        own = [(tokens, found) for _, _, tokens in inputs if (found := by_position(call, tokens)) is not None]
        # A tensor that equals the targets is not an input, unless it is the only one.
        others = [pair for pair in own if len(own) == 1 or not torch.equal(pair[0], pair[1][0])]
        for tokens, (target, counted, short) in others or own[:1]:
            given = tokens[:, : tokens.shape[1] - short]
            counted = counted & _no_padding(given)
            here = (target == given)[counted]
            share = float(here.float().mean()) if len(here) else 0.0
            if len(here) < _FEWEST or len(target[counted].unique()) < 5 or share < _SAME:
                continue
            if short or not _is_only_sequence(evidence, tokens) or not _looked_up(evidence, tokens):
                continue
            yield _finding(
                f"{percent(share, 0)} of the targets that count are the input token at the same position",
                "shift the targets, `inputs, targets = tokens[:, :-1], tokens[:, 1:]`; for masked tokens, mask the "
                "input and count only those: `targets[~masked] = -100`",
                limit=_SAME_TOKENS,
            )
            return


def _no_padding(tokens: torch.Tensor) -> torch.Tensor:
    """Where tokens are not padding; targets may be padded with the same token."""
    filler = padding_value(tokens)
    return torch.ones_like(tokens, dtype=torch.bool) if filler is None else tokens != filler


def _decoder_gets_targets(evidence: Evidence) -> Iterator[Finding]:
    """Targets that are the words a decoder gets at the same positions, in addition to what it describes, or to the
    output of another network."""
    sequences = _sequences(evidence)
    read = [tensor for tensor in evidence.calls.looked_up if not bool((tensor == tensor[:1]).all())]
    apart = len(read) > 1 and not any(torch.equal(one, read[-1]) for one in sequences)
    sequences = read if apart else sequences
    given = sequences[-1] if sequences else torch.zeros(0)
    for call in class_losses(evidence) if sequences else ():
        target = call.target.detach().cpu()
        if target.numel() != given.numel() or given.ndim != 2:
            continue
        if not apart and not _all_looked_up(evidence, sequences, given.shape):
            continue
        counted = (target.reshape(given.shape) != call.ignored) & _no_padding(given)
        same = (target.reshape(given.shape) == given)[counted]
        if len(same) < _FEWEST or len(given[counted].unique()) < 5 or float(same.float().mean()) < _SAME:
            continue
        yield _finding(
            f"{percent(float(same.float().mean()), 0)} of the targets that count are the word that the network gets at "
            "that position",
            "pass the words up to the last and predict those from the second on: `words[:, :-1]` and `words[:, 1:]`",
            limit=_SAME_TOKENS,
        )
        return


def _fed_back(evidence: Evidence) -> Iterator[Finding]:
    """Targets that are the words a decoder gets at the same positions, one position after the other, in addition to
    other inputs."""
    calls, losses = evidence.calls, list(class_losses(evidence))
    if not losses:
        return
    all_targets = torch.cat([call.target.detach().cpu().flatten() for call in losses])
    for kept in (calls.entries, [one.flatten() for one in calls.looked_up if 1 in one.shape]):
        samples = len(kept[-1]) if kept else 1
        steps = all_targets.numel() // samples
        beside = bool(calls.looked_up) or len(kept) > steps or calls.convolved is not None
        if samples * steps != all_targets.numel() or not 1 < steps <= len(kept) or not beside:
            continue
        if any(len(one) != samples for one in kept[-steps:]):
            continue
        given = torch.stack(kept[-steps:])
        for target in (all_targets.reshape(steps, samples), all_targets.reshape(samples, steps).T):
            counted = (target != losses[0].ignored) & _no_padding(target.T).T
            counted[1:] &= target[1:] != target[:-1]
            same = (given == target)[counted]
            if len(same) < _FEWEST or len(target[counted].unique()) < 5 or float(same.float().mean()) < _SAME:
                continue
            if _depends_on_targets(evidence, target):
                yield _finding(
                    f"{percent(float(same.float().mean()), 0)} of the targets that count are the word that the network "
                    "looks up in the same step, and its outputs depend on it",
                    "feed the word before the target: `word = target[t - 1]` for `target[t]`",
                    limit=f"{_SAME_TOKENS}, and change the outputs there",
                )
                return


def _depends_on_targets(evidence: Evidence, target: torch.Tensor) -> bool:
    """Whether outputs at a position change with the inputs that equal the targets (positions, samples) there and later:
    words that are looked up after an output do not matter for it."""
    for batch, path, tokens in token_inputs(evidence):
        for axis, rows in enumerate((tokens, tokens.T)):
            first = len(rows) - len(target)
            if rows.shape[1] != target.shape[1] or first < 0 or not torch.equal(rows[first:], target):
                continue
            for place in range(min(len(target), _PLACES)):

                def others(given: torch.Tensor, axis: int = axis, at: int = first + place) -> torch.Tensor:
                    placed = given.movedim(axis, 0)
                    return torch.cat([placed[:at], placed[at:].roll(1, 1)]).movedim(0, axis)

                moved, scale = outputs_moved(evidence, batch, path, others)
                moved = moved.movedim(axis, 0)
                if len(moved) == len(target) and float(moved[place].max()) > CHANGED * scale:
                    return True
    return False


def _all_looked_up(evidence: Evidence, sequences: list[torch.Tensor], shape: torch.Size) -> bool:
    """Whether each sequence of a shape is looked up in an embedding; others may be targets of a loss within the
    network."""
    found = [call for call in evidence.graph.calls if call.name == "embedding" and call.shape[:2] == tuple(shape)]
    needed = sum(one.shape == shape for one in sequences) * max(1, evidence.first.calls)
    return len(sequences) == 1 or len(found) >= needed


def _sequences(evidence: Evidence) -> list[torch.Tensor]:
    """The sequences (samples, positions) of token indices that the network gets; those with negative numbers are
    targets of a loss within the network."""
    found = [
        tensor.detach().cpu()
        for _, tensor in leaves(list(evidence.first.arguments))
        if tensor.ndim == 2 and not tensor.is_floating_point()
    ]
    return [tensor for tensor in found if len(tensor.unique()) > 2 and int(tensor.min()) >= 0]


def _is_only_sequence(evidence: Evidence, tokens: torch.Tensor) -> bool:
    """Whether the network gets no sequence other than these tokens, unlike a decoder; position indices, equal for all
    samples, do not count."""
    sequences = [tensor for tensor in _sequences(evidence) if not bool((tensor == tensor[:1]).all())]
    return all(tensor.shape == tokens.shape and torch.equal(tensor, tokens) for tensor in sequences)


def _looked_up(evidence: Evidence, tokens: torch.Tensor) -> bool:
    """Whether these tokens are looked up in an embedding, or are the input where none are: a network that gets inputs
    and targets may shift the targets for its decoder itself, and targets beside pictures are no input."""
    known = evidence.calls.looked_up
    if not known:
        x = main_tensor(parts(evidence.train.raw[0])[0])
        return x is not None and not x.is_floating_point()
    return any(one.shape == tokens.shape and torch.equal(one, tokens.to(one)) for one in known)


def _residual_of_input(evidence: Evidence) -> Iterator[Finding]:
    """Targets that equal the inputs, for a network that adds its input to its output: nothing is left to learn."""
    for batch in evidence.train.raw:
        x, y = (main_tensor(part) for part in parts(batch))
        if x is None or y is None or x.ndim < 2 or not x.is_floating_point() or not torch.equal(x, y):
            return
        if x is y and not _targets_are_inputs(evidence):
            return
    last = _adds_input(evidence.prediction_graph)
    if last is None or _adds_input(evidence.graph) is None:  # a network may add noise in training
        return
    yield _finding(
        "the targets are identical to the inputs, and the last operation of the network is "
        f"`{last.name.strip('_')}` with its input",
        "use the clean sample as target and the noisy one as input: `clean` and `clean + sigma * noise`",
        limit="all inputs are identical to their targets, and the network adds its input to its output",
    )


def _adds_input(graph: CallGraph) -> Call | None:
    """The last call of a network, if it adds or subtracts its input."""
    last = None if graph.end is None else graph.origin(graph.end)
    if last is None or last.name not in SUMS or not any(i == INPUT or graph.origin(i) is None for i in last.inputs):
        return None
    return last


def _reproduces_input(evidence: Evidence) -> Iterator[Finding]:
    """Targets that equal the network's input including its noise, although a clean sample exists."""
    shown = evidence.calls.shown
    if shown is None or not shown.is_floating_point() or shown.ndim < 3 or not _targets_are_inputs(evidence):
        return
    if _noisy_for_nothing(evidence.graph, shown.shape):
        yield _finding(
            "the loss compares outputs with the network's own input, and the step makes a noisy copy of the batch "
            "that it does not use",
            "pass the noisy copy to the network: `criterion(model(noisy), clean)`",
            limit="the loss gets the network's input, and the batch with added noise is not used",
        )
        return
    if _gets_noise_level(evidence, shown) and _narrowest(evidence) >= shown.numel():
        yield _finding(
            "the loss compares outputs with the network's own input, and the network also gets the noise level of "
            "each sample",
            "use the clean sample as target, and add noise to a copy: `noisy = clean + sigma * noise`, not "
            "`clean.add_(…)`",
            limit="the loss gets the network's input, and the network also gets the noise level of each sample",
        )
        return
    clean = [
        found.to(shown)
        for _, found in leaves(evidence.train.raw[0])
        if found.is_floating_point() and found.shape == shown.shape
    ]
    if any(torch.equal(one, shown) for one in clean[:1] if len(clean) == 1):
        return
    for one in clean:
        noise = shown - one
        related = float(torch.corrcoef(torch.stack([one.flatten(), shown.flatten()]))[0, 1]) > _RELATED
        if related and float(noise.std()) > 0 and float(roughness(noise.flatten(2), 1).median()) > _ROUGH:
            yield _finding(
                "the loss compares outputs with the network's own input, including its noise: the batch also holds "
                "the input without that noise, whose neighboring values are uncorrelated",
                "use the clean sample as target: `criterion(model(noisy), clean)`",
                limit="the loss gets the network's input, and the batch also holds it without noise",
            )
            return


def _noisy_for_nothing(graph: CallGraph, shape: torch.Size) -> bool:
    """Whether a step adds noise to a batch of this shape, and does not use the sum."""
    return any(
        call.name in SUMS
        and call.from_batch
        and call.shape == tuple(shape)
        and not graph.consumers[call.index]
        and any(index >= 0 and graph.calls[index].name in NORMAL for index in graph.ancestors(call.index))
        for call in graph.calls
    )


def _targets_are_inputs(evidence: Evidence) -> bool:
    """Whether the targets of all torch losses in a step equal the network's input."""
    shown, calls = evidence.calls.shown, evidence.calls.losses
    return bool(calls) and all(shown is not None and torch.equal(call.target, shown) for call in calls)


def _gets_noise_level(evidence: Evidence, shown: torch.Tensor) -> bool:
    """Whether the network gets a number for each sample that correlates with the roughness of the sample."""
    rough = shown.double().diff(n=2, dim=-1).flatten(1).square().mean(1).sqrt().cpu()
    beside = [
        tensor.detach().double().flatten().cpu()
        for _, tensor in leaves(list(evidence.first.arguments))
        if len(shown) >= _FEWEST_ROUGH and tensor.ndim and len(tensor) == tensor.numel() == len(shown)
    ]
    found = (float(torch.corrcoef(torch.stack([rough, one]))[0, 1]) for one in beside if len(one.unique()) > 2)
    return any(related > _CORRELATED for related in found)


def _narrowest(evidence: Evidence) -> int:
    """The size of the narrowest tensor between input and output of the network."""
    graph, end = evidence.graph, evidence.graph.end
    return 0 if end is None else min((math.prod(call.shape) for call in graph.bottlenecks(end)), default=0)


def _hole_not_cut(evidence: Evidence) -> Iterator[Finding]:
    """Inpainting without a hole: the network gets the complete image with the mask of the hole, and the loss weights
    errors by that mask."""
    calls = evidence.calls
    shown = calls.convolved
    if shown is None or shown.ndim != 4 or not calls.masks:
        return
    width = _narrowest(evidence)
    columns = shown.cpu().double().transpose(0, 1).flatten(1).T
    for target in (*(call.target.cpu() for call in calls.losses), *calls.subtracted):
        fits = target.ndim == 4 and target.shape[::2] == shown.shape[::2] and target.shape[3] == shown.shape[3]
        # A network with a bottleneck smaller than its targets has something to learn: an autoencoder.
        if not fits or not target.is_floating_point() or target.numel() > width:
            continue
        channels = target.double().transpose(0, 1).flatten(1)
        left = [unexplained_by_each(columns - columns.mean(0), one - one.mean()).min() for one in channels]
        if float(max(left)) <= LINEAR and any(_is_channel(mask, shown.cpu()) for mask in calls.masks):
            yield _finding(
                "the network gets the whole image that it should predict, and a mask with which the loss weights "
                "errors: nothing is cut out of the image",
                "cut out what the network should fill in: `torch.cat([image * (1 - mask), mask], 1)`",
                limit="the network gets a whole image and the mask of the hole that errors are weighted by",
            )
            return


def _is_channel(mask: torch.Tensor, shown: torch.Tensor) -> bool:
    """Whether a mask (N, …, H, W) that differs between samples, or its complement, is a channel of the input."""
    one = mask[:, 0].to(shown)
    if one.shape != shown[:, 0].shape or bool((one == one[:1]).all()):
        return False
    return any(torch.equal(channel, one) or torch.equal(channel, 1 - one) for channel in shown.unbind(1))


def _given_to_loss(evidence: Evidence) -> Iterator[Finding]:
    """A number of the input that the batch contains a second time for the loss alone, such as a time to be ranked."""
    inputs = [parts(batch)[0] for batch in evidence.train.raw]
    if not all(isinstance(one, tuple) and all(isinstance(t, torch.Tensor) for t in one) for one in inputs):
        return
    if len({one[0].shape[1:] for one in inputs}) != 1:
        return
    table = torch.cat([one[0].detach().cpu() for one in inputs])
    if table.ndim != 2 or not table.is_floating_point() or len(table) < _FEWEST or not columns_given(evidence):
        return
    for place in range(1, min(map(len, inputs))):
        if any(one[place].ndim != 1 for one in inputs):
            continue
        beside = torch.cat([one[place].detach().cpu() for one in inputs])
        if beside.shape != table.shape[:1] or not beside.is_floating_point() or len(beside.unique()) < 20:
            continue
        left = unexplained_by_each(table.double() - table.double().mean(0), beside.double() - beside.double().mean())
        column = int(left.argmin())
        if float(left[column]) <= LINEAR:
            yield _finding(
                f"number {column} of the {several(table.shape[1], 'input number')} is the scaled number that the "
                "loss gets in addition to the outputs",
                f"remove it: `inputs = torch.cat([inputs[:, :{column}], inputs[:, {column + 1}:]], 1)`",
                "warning",
                limit="a number that only the loss should get is one of the inputs",
            )
            return


def _revealed(by_columns: Iterator[RevealedTarget]) -> Iterator[Finding]:
    for found in by_columns:
        yield _finding(found.measured, found.remedy, found.severity, limit=found.limit)


def _finding(measured: str, remedy: str, severity: Severity = "error", *, limit: str) -> Finding:
    return TARGET_IN_INPUT.finding(
        severity=severity,
        where="the training batches",
        measured=measured,
        limit=limit,
        why="The network only has to copy: the loss says nothing about inputs that do not contain the target.",
        remedy=remedy,
    )


TARGET_IN_INPUT = Check(
    codes=(CODE,),
    run=_run,
    explains="model.batch-mixing fit.* data.leak optim.lr-schedule speed.small-batch",
)
