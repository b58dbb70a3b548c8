"""Class maps that fit their inputs no better than those of other samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import torch

from striate.doctor.checks.data.labels.above_chance import NOTHING_TO_LEARN, validation_predictions
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.features import channels_first
from striate.doctor.evidence.simple_models import class_separation, match_own_maps
from striate.records import Finding
from striate.wording import several

_FEWEST = 20


def mismatched_maps(evidence: Evidence, maps: torch.Tensor) -> Iterator[Finding]:
    """A finding if inputs fit their own class maps no better than the maps of other samples."""
    x = channels_first(evidence.samples.sole_inputs)
    if x.shape[2:] != maps.shape[1:] or not x.is_floating_point():
        raise NoEvidence("the targets are maps with another size than the inputs")
    if len(maps) < _FEWEST:
        raise NoEvidence(
            f"{several(len(maps), 'map is', 'maps are')} too few to decide whether they belong to their inputs"
        )
    own, others = class_separation(x, maps)
    if not others or own > max(others) or _network_sees(evidence):
        return
    beaten = sum(other >= own for other in others)
    yield Finding(
        code="data.labels-random",
        severity="error",
        where="training targets",
        measured="brightness and texture predict the classes of positions no better than with the maps of other "
        f"samples: {beaten} of {len(others)} random pairings of {several(len(maps), 'input')} and maps fit as well "
        "or better",
        threshold="inputs fit their own maps better than in all random pairings",
        why=NOTHING_TO_LEARN,
        remedy="Draw the maps over ten inputs and look at them. Usual reasons: only one of both was shuffled or "
        "sorted, files are listed in different orders (match them by name), only one of both was flipped or "
        "cropped.",
    )


def _network_sees(evidence: Evidence) -> bool:
    """Whether the trial's network predicts validation maps better than those of other samples: it may see more than
    brightness and texture."""
    predictions, maps = validation_predictions(evidence), None
    with suppress(NoEvidence):
        maps = evidence.val_samples.maps
    if predictions is None or maps is None:
        return False
    with suppress(NoEvidence):
        predicted = predictions.predicted
        return predicted.shape == maps[: len(predicted)].shape and match_own_maps(predicted, maps[: len(predicted)])
    return False
