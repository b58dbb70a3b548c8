"""`loss.broadcast` of a script whose step is not made again, as one that plays an environment: by its variables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.wiring import BROADCAST, all_with_all
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding

_NUMBER_BY_NUMBER = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits")


def _run(evidence: Evidence) -> Iterator[Finding]:
    """Losses of two variables, whose tensors at the first step have other shapes than one another."""
    source = evidence.source
    for site in source.calls(*_NUMBER_BY_NUMBER):
        outputs, targets = (source.value(part) for part in site.node.args[:2]) if len(site.node.args) > 1 else (0, 0)
        if isinstance(outputs, torch.Tensor) and isinstance(targets, torch.Tensor):
            shapes = tuple(outputs.shape), tuple(targets.shape)
            found = None if shapes[0] == shapes[1] else all_with_all(*shapes, f" by `{site.text}`")
            if found is not None:
                yield replace(found, where=site.where)
                return


NAMED_TENSORS = Check(BROADCAST.codes, BROADCAST.question, BROADCAST.threshold, _run, of_source=True)
