"""Images that the loader mirrors after they were read, as in a collate function or a generator, without their maps."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import torch

from striate.doctor.checks.data.moved.left_behind import BETWEEN, left_behind
from striate.doctor.checks.data.moved.mirrored_by_step import WAYS, equal_rows, nearer_rows
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.read_batches import Batches, read_batches
from striate.errors import DataError
from striate.models.preserved_state import same_random_state, seed_all
from striate.records import Finding
from striate.wording import several

_FEWEST = 8


def left_by_loader(evidence: Evidence) -> Finding | None:
    """A finding if images of two passes over the training loader are mirrored although their maps are the same; else
    None. Samples are identified by their maps, which have to be unlike all others and unlike their mirror image."""
    first = evidence.train
    second = _read_again(evidence) if _are_maps(first.x, first.y) else None
    if second is None:
        return None
    if first.x is None or first.y is None or second.x is None or second.y is None or not _are_maps(second.x, second.y):
        return None
    once, again = _places(first.y), _places(second.y)
    pairs = [(once[key], again[key]) for key in once.keys() & again.keys()]
    if len(pairs) < _FEWEST or first.x.shape[1:] != second.x.shape[1:]:
        return None
    ours, theirs = (list(places) for places in zip(*pairs, strict=True))
    one, other, maps = first.x[ours], second.x[theirs], first.y[ours]
    for axis, way in WAYS.items():
        uneven = ~equal_rows(maps, maps.flip(axis))
        count = int((nearer_rows(other, one.flip(axis), one) & uneven).sum())
        if count >= _FEWEST:
            return left_behind(
                "the training loader",
                f"of {several(len(pairs), 'sample')} with the same target map in two passes over the loader, "
                f"one of the passes would {way} the images of {count:,}",
                f"{_FEWEST} or more samples with a mirrored image and the same map, which no other sample has",
                BETWEEN,
                "move targets with their images: `masks = masks.flip(-1)`",
            )
    return None


def _read_again(evidence: Evidence) -> Batches | None:
    """The batches of another pass, with other random numbers; None for batches that can be read only once."""
    with same_random_state(), suppress(DataError):
        seed_all(1)
        return read_batches(evidence.setup.train, evidence.clock.until(0.05, 2.0), "train")
    return None


def _are_maps(x: torch.Tensor | None, y: torch.Tensor | None) -> bool:
    """Whether images (N, C, H, W) have targets of their height and width."""
    return x is not None and y is not None and x.ndim == 4 and y.ndim > 2 and x.shape[-2:] == y.shape[-2:]


def _places(maps: torch.Tensor) -> dict[bytes, int]:
    """The positions of the maps that occur once, by their contents."""
    keys = [row.contiguous().numpy().tobytes() for row in maps]
    count = Counter(keys)
    return {key: place for place, key in enumerate(keys) if count[key] == 1}
