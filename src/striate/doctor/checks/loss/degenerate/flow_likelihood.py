"""The likelihood that a normalizing flow assigns to noise: no density exceeds that of the noise itself on average."""

from __future__ import annotations

import math
import re

import torch

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.substituted_outputs import loss_of_batch
from striate.doctor.setup.batch import altered, copied, leaves
from striate.wording import several

_DETERMINANT = re.compile(r"log_?(abs_?)?det|ladj|(^|_)ldj|jac(obian)?($|_)", re.IGNORECASE)
"""Names in scripts for the log determinant of a flow's layers."""
_BATCHES = 3
_MARGIN = 1.0
"""Nats below the lowest value of any density; a few batches of noise vary by less."""


def likelihood_of_noise(evidence: Evidence) -> str | None:
    """What was measured, where a flow's negative log likelihood of noise with the standard deviations of the data is,
    after the trial, below the entropy of the noise; None elsewhere.

    That of a density is at least the entropy (Gibbs' inequality). The limit also holds for a mean over columns, and
    without the constant of a Gaussian.
    """
    batch, x = evidence.train.raw[0], evidence.samples.x
    alone = [path for path, part in leaves(batch) if part.is_floating_point()]
    if x is None or x.ndim != 2 or x.shape[1] < 2 or alone != [evidence.samples.x_path] or evidence.calls.losses:
        return None
    if not is_flow(evidence):
        return None
    deviation = x.double().std(0)
    entropy = float(deviation.clamp_min(1e-12).log().sum()) + 0.5 * x.shape[1]  # without the constant
    least = min(entropy, entropy / x.shape[1], 0.0)
    generator, found = torch.Generator().manual_seed(0), list[float]()
    for _ in range(_BATCHES):
        noise = torch.randn(x.shape, generator=generator, dtype=torch.double) * deviation + x.double().mean(0)
        drawn = altered(batch, alone[0], lambda part, noise=noise: noise[: len(part)].to(part))  # type: ignore[misc]
        loss = loss_of_batch(evidence, evidence.trial, copied(drawn))
        if loss is None or not math.isfinite(loss):
            return None
        found.append(-loss if evidence.trial.maximizes else loss)
    if max(found) >= least - _MARGIN:
        return None
    return (
        f"after {several(len(evidence.trial.rows), 'step')} the negative log likelihood of noise with the standard "
        f"deviations of the data is {max(found):.3g}; that of a density, which integrates to 1, is at least {least:.3g}"
    )


def is_flow(evidence: Evidence) -> bool:
    """Whether methods of the network's modules have variables named for determinants."""
    kinds = {type(part) for part in evidence.fresh.model.modules()}
    codes = [getattr(value, "__code__", None) for kind in kinds for value in vars(kind).values()]
    return any(_DETERMINANT.search(name) for code in codes if code is not None for name in code.co_varnames)
