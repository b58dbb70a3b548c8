"""Does the network answer the same whatever it is given?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding

SAME = 1e-4
"""Spread of the outputs over samples, as a share of their size."""
FEWEST = 4
LITTLE = 0.1


def run(evidence: Evidence) -> Iterator[Finding]:
    """Outputs without spread after the trial; of a network that has learned none, a last layer of zeros is no fault."""
    trial = evidence.trial
    seen = [evidence.after.outputs]
    if isinstance(trial.later.outputs, torch.Tensor):
        seen.append(trial.later.outputs)
    spreads = [_spread(outputs) for outputs in seen]
    if not trial.rows or any(len(outputs) < FEWEST for outputs in seen) or _inputs_are_one(evidence):
        return
    if not all(spread is not None and spread < SAME for spread in spreads):
        return
    begins = _spread(evidence.start.outputs)
    if begins is not None and begins >= SAME and evidence.progress.share > LITTLE:
        return
    outputs = evidence.after.outputs.flatten(1) if evidence.after.outputs.ndim > 1 else evidence.after.outputs[:, None]
    answer = ", ".join(f"{float(value):.3g}" for value in outputs[0, :4])
    dots = ", …" if outputs.shape[1] > 4 else ""
    always = begins is not None and begins < SAME
    yield Finding(
        code="model.collapsed",
        severity="error" if always else "warning",
        where="the network's outputs",
        measured=f"for {len(outputs)} different inputs all outputs are ({answer}{dots}) within "
        f"{max(s or 0 for s in spreads):.1g} "
        f"of their size after {len(trial.rows)} steps{', as before them' if always else '; before them they differed'}",
        threshold=f"a spread over samples below {SAME:g} of their size",
        why="What the inputs tell is lost on the way: only a constant can be learned.",
        remedy="Print `h.flatten(1).std(0).mean()` after each layer for one batch: where it falls to 0, something "
        "takes the "
        "mean off a single number (normalization over an axis of length 1), or multiplies by zero, or takes a softmax "
        "of one output.",
    )


def _spread(outputs: torch.Tensor) -> float | None:
    """Over samples, as a share of the outputs' size; 0 of zeros, None where they are not finite."""
    values = outputs.double().reshape(len(outputs), -1)
    if not bool(torch.isfinite(values).all()):
        return None
    size = float(values.abs().mean())
    return float(values.std(0, correction=0).mean()) / size if size else 0.0


def _inputs_are_one(evidence: Evidence) -> bool:
    x = evidence.train.x
    return x is not None and len(x) > 1 and bool((x == x[:1]).all())


CHECK = Check(
    codes=("model.collapsed",),
    question="Does what the network answers depend on its input?",
    threshold=f"Over samples its outputs differ by less than {SAME:g} of their size after the trial, in training and "
    "evaluation "
    "mode, as they did before it (an error), or learning nothing (a warning). A last layer that begins with zeros "
    "answers differently after the first step.",
    run=run,
    explains="model.redundant-filters optim.lr-too-low fit.*",
)
