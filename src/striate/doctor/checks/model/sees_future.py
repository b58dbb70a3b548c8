"""`model.sees-future`: does a network that predicts the next token read it from its input?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import predict
from striate.doctor.evidence.token_targets import SAME as SAME_TOKENS
from striate.doctor.evidence.token_targets import next_token_targets
from striate.doctor.setup.batch import Path, altered, leaf
from striate.doctor.setup.replicas import Replica
from striate.records import Finding
from striate.wording import percent

CODE = "model.sees-future"
CHANGED = 1e-3
"""In standard deviations of the outputs; rounding changes them by less than a hundredth of that."""
SAME = CHANGED / 10


def _run(evidence: Evidence) -> Iterator[Finding]:
    if (unshifted := _not_shifted(evidence)) is not None:
        yield unshifted
        return
    found = next_token_targets(evidence)
    if found is None:
        raise NoEvidence("the targets are not the inputs' next tokens")
    batch, path, tokens = found
    places = sorted({tokens.shape[1] // 4, tokens.shape[1] // 2, 3 * tokens.shape[1] // 4} - {0})
    moved = max(_moved_before(evidence, batch, path, place) for place in places)
    if moved < CHANGED:
        return
    yield CHECK.finding(
        severity="error",
        where="the network",
        measured=f"the target at a position is the next input token, but changing later tokens of the input changes "
        f"the outputs before them by {moved:.2g} of their standard deviation",
        why="The network reads the target from its input: the loss falls far, but generated text is worthless, because "
        "the next token is not there yet.",
        remedy="mask later positions in attention: `nn.functional.scaled_dot_product_attention(q, k, v, "
        "is_causal=True)`, or `scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), float('-inf'))` before "
        "the softmax; use recurrent layers with `bidirectional=False`",
    )


def _not_shifted(evidence: Evidence) -> Finding | None:
    """The finding for targets that are the tokens at their own positions, of a network that reads only tokens up to
    there, like one that predicts the next token; None for others, such as one that reads all to reconstruct them, or a
    decoder that gives each output the token before."""
    found = next_token_targets(evidence, own=True)
    if found is None:
        return None
    batch, path, tokens = found
    place = tokens.shape[1] // 2
    moved, scale = outputs_moved(evidence, batch, path, lambda tokens: others_behind(tokens, place))
    if float(moved[:, :place].amax() / scale) >= CHANGED or float(moved[:, place].amax() / scale) < CHANGED:
        return None  # where the output at a position does not read the token there, the network shifts tokens by itself
    return CHECK.finding(
        severity="error",
        where="the targets",
        measured="the target at each position is the input token at the same position, and the network reads only "
        "tokens up to there",
        limit=f"{percent(SAME_TOKENS, 0)} of the targets are the tokens at their own positions, and later tokens do "
        "not change the outputs",
        why="The network learns to copy its input: the loss falls far, but it predicts no next token.",
        remedy="shift the targets by one: `x, y = tokens[:, :-1], tokens[:, 1:]`",
    )


def _moved_before(evidence: Evidence, batch: Any, path: Path, place: int) -> float:
    """By how many standard deviations outputs at positions before `place` change if all tokens from `place` on do.
    Raises NoEvidence if no output changes."""
    # The step after the trial may evaluate first, as each fiftieth one does: its outputs are those of other batches.
    for replica in (evidence.trial.replica, evidence.fresh):
        moved, scale = outputs_moved(evidence, batch, path, lambda tokens: others_behind(tokens, place), replica)
        if bool(moved.any()):
            return float(moved[:, :place].amax() / scale)
    raise NoEvidence("no output changes with later tokens")


def others_behind(tokens: torch.Tensor, place: int) -> torch.Tensor:
    """The tokens (samples, positions) with the columns from `place` on exchanged between rows; a single row is reversed
    there."""
    changed = tokens.clone()
    changed[:, place:] = changed[:, place:].roll(1, 0) if len(changed) > 1 else changed[:, place:].flip(1)
    return changed


def outputs_moved(
    evidence: Evidence,
    batch: Any,
    path: Path,
    change: Callable[[torch.Tensor], torch.Tensor],
    replica: Replica | None = None,
) -> tuple[torch.Tensor, float]:
    """The absolute change of the outputs (samples, positions, classes) of a replica, by default the trial's, if one
    tensor of the batch is changed, and their standard deviation. Raises NoEvidence where outputs are not reproducible
    or have no axis of positions."""
    asked = evidence.trial.replica if replica is None else replica

    def outputs(change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        changed = altered(batch, path, change)
        return _by_position(predict(evidence.setup, asked, [changed]).outputs, batch, path)

    before, after, again, after_again = (outputs(one) for _ in range(2) for one in (torch.clone, change))
    known = before.isfinite() & after.isfinite()  # excluded classes have a score of minus infinity
    scale = max(float(before[known].std()), 1e-12)
    for first, second in ((before, again), (after, after_again)):
        # Outputs may differ if the loop sometimes evaluates, or if sums are rounded differently each time.
        if first.shape != second.shape or not float((second - first)[known].abs().max()) < SAME * scale:
            raise NoEvidence("the same batch does not give the same outputs twice")
    return torch.where(known, after - before, 0).abs(), scale


def _by_position(outputs: torch.Tensor, batch: Any, path: Path) -> torch.Tensor:
    """The outputs as (samples, positions, classes), or (positions, samples, classes) if tokens have that order. Raises
    NoEvidence where they have no axis of positions."""
    tokens = leaf(batch, path)
    assert tokens is not None
    samples, positions = tokens.shape
    if outputs.ndim >= 2 and outputs.shape[:2] in (
        (samples, positions),
        (samples, positions - 1),
        (samples - 1, positions),
    ):
        return outputs.flatten(2).double()
    if outputs.ndim == 3 and (outputs.shape[0], outputs.shape[2]) == (samples, positions):
        return outputs.transpose(1, 2).double()
    if outputs.ndim == 2 and len(outputs) == samples * positions:
        return outputs.reshape(samples, positions, -1).double()
    raise NoEvidence("the outputs have no axis of positions")


CHECK = Check(
    codes=(CODE,),
    threshold=f"outputs that change by {CHANGED:g} of their standard deviation if only later tokens are changed, and "
    "targets that are the inputs' next tokens",
    run=_run,
    explains="fit.* data.leak model.batch-mixing",
)
