"""A recurrent network that keeps its state from one batch to the next, though these are unrelated."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import RandomSampler

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.predictions import predict
from striate.doctor.setup.batch import main_tensor

_APART = 1e-2
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def carried_state(evidence: Evidence) -> tuple[str, float] | None:
    """The attribute that holds the state, such as `model.state`, and by how many standard deviations predictions for a
    batch change after another one; None unless the training loader shuffles. Raises NoEvidence where the network makes
    no predictions."""
    raw = evidence.train.raw[:2]
    recurrent = any(isinstance(part, _RECURRENT) for part in evidence.fresh.model.modules())
    shuffled = isinstance(getattr(evidence.setup.train, "sampler", None), RandomSampler)
    if not recurrent or not shuffled or len(raw) < 2:
        return None
    holder = next(
        (
            f"{f'model.{place}' if place else 'model'}.{name}"
            for place, part in evidence.setup.model.named_modules()
            for name, value in vars(part).items()
            if not name.startswith("_") and isinstance(main_tensor(value), torch.Tensor)
        ),
        None,
    )
    if holder is None:
        return None
    one, _, again = (
        predict(evidence.setup, evidence.trial.replica, [raw[0], raw[1], raw[0]])
        .outputs.double()
        .tensor_split((evidence.train.sizes[0], sum(evidence.train.sizes[:2])))
    )
    if one.shape != again.shape:
        return None
    far = float((again - one).abs().max() / one.std().clamp_min(1e-12))
    return (holder, far) if far > _APART else None
