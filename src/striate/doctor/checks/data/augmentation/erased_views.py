"""Views for contrastive learning that the step creates, with nearly all of the sample erased."""

from __future__ import annotations

import torch

from striate.doctor.checks.data.augmentation.finding import augmentation_finding
from striate.doctor.checks.loss.pairs.contrastive_partners import WRONG, nearest_partners
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.pairs import inputs_embedded
from striate.records import Finding
from striate.wording import percent

_LEFT = 0.8
"""The share of a view that is one value; usual cutouts are smaller."""


def erased_views(evidence: Evidence) -> Finding | None:
    """Views that are mostly one value, and no nearer to the other view of their sample than to other samples."""
    try:
        found = nearest_partners(evidence)
        steps = [torch.cat(inputs).flatten(1) for inputs in inputs_embedded(evidence) if inputs]
    except NoEvidence:
        return None
    if found is None or not steps or max(found.by_loss, found.reordered) > WRONG:
        return None
    same = torch.cat([(x == x.mode(1, keepdim=True).values).double().mean(1) for x in steps]).median()
    if float(same) < _LEFT:
        return None
    return augmentation_finding(
        "step",
        f"{percent(float(same), 0)} of a view's values are the same number, and a view is nearer to the other view of "
        f"its sample than to other samples in {percent(max(found.by_loss, found.reordered), 0)} of comparisons, as by "
        "chance",
        threshold=f"less than {percent(_LEFT, 0)} of a view erased, or {percent(WRONG, 0)} of comparisons right",
        why="What is left of two views has nothing in common that shows that they belong to the same sample.",
        remedy="cut out less, and check which part is cut: `images * ~hole` keeps what is outside the hole",
    )
