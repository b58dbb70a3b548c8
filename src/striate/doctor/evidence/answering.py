"""Whether the network's outputs are predictions that the loader's targets can be compared with."""

from __future__ import annotations

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import main_tensor, parts


def predicts_targets(evidence: Evidence) -> bool:
    """Whether a loss compares outputs and targets, or there are as many outputs as classes: embeddings are no
    predictions, though they may have the shape of some."""
    outputs = main_tensor(evidence.first.outputs)
    targets = main_tensor(parts(evidence.train.raw[0])[1])
    if outputs is None or targets is None or not targets.ndim:
        return False
    if not evidence.setup.compares and targets.ndim < 2:
        return False  # class numbers beside embeddings
    compared = evidence.first.loss_targets
    if isinstance(compared, torch.Tensor) and len(compared) == len(targets) and compared.ndim <= outputs.ndim:
        wanted = compared.detach().cpu().double().reshape(len(targets), -1)
        given = targets.detach().cpu().double().reshape(len(targets), -1)
        if wanted.shape != given.shape or bool((wanted == given).all()) or wanted.shape[1] > 1:
            return True
        # Such as targets that the step moves to begin at 0.
        return bool(((wanted - given) == (wanted - given)[0]).all())
    if any(len(call.target) == len(targets) for call in evidence.calls.losses if call.target.ndim):
        return True
    try:
        classes = int(evidence.train.labels.max()) + 1
    except NoEvidence:
        return targets.shape == outputs.shape or targets.numel() == outputs.numel()
    return outputs.ndim == 1 or outputs.shape[1] in (1, classes)
