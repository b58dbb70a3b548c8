"""Images that the data set mirrors, while their texts still name left and right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import default_convert

from striate.doctor.checks.data.moved.left_behind import AUGMENTATION, left_behind
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.draws import ALIKE, images, likeness
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.held_samples import columns_of
from striate.doctor.evidence.read_batches import at_bottom, read_by_index
from striate.doctor.setup.batch import leaves, main_tensor, parts
from striate.models.preserved_state import same_random_state
from striate.records import Finding
from striate.wording import several

_SIDES = re.compile(r"\b(left|right)(most)?\b", re.IGNORECASE)
_MOST, _SAMPLES, _DRAWS = 1000, 16, 5
_SHARE, _FEWEST, _CLEARER = 0.05, 3, 0.1
"""The least share of texts that name sides (in a few, "left" may mean a rest); the fewest samples; a difference of
correlations."""
_WORDS = 3
"""The fewest words of a text."""
_SHOWN = 60
"""The most letters of a text that are shown."""


def left_in_texts(evidence: Evidence) -> Finding | None:
    """A finding if images are mirrored, but not their texts that name sides; None if few are. Raises NoEvidence if
    samples cannot be read twice."""
    if (found := unmirrored_texts(evidence.setup.train)) is None:
        return None
    kept, text = found
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
    return left_behind(
        AUGMENTATION,
        f"{several(kept, 'sample')} whose texts name left or right are mirrored in some draws, and have the "
        f"same text in all of them, such as `{shown}`",
        "3 samples that are mirrored in some draws, whose texts name left or right and stay the same; one text "
        "in 20 names them",
        "In a mirrored image what was on the left is on the right: half of these texts are wrong.",
        "do not mirror such samples, or exchange the words: `left` and `right`",
    )


def unmirrored_texts(loader: Any) -> tuple[int, str] | None:
    """The number of samples that are mirrored in some draws, but keep a text that names left or right, and one of these
    texts; None if there are few, or if texts change. Raises NoEvidence if samples cannot be read twice."""
    data = read_by_index(loader)
    kept, changed, example = 0, 0, ""
    with same_random_state():
        try:
            texts = dict(islice(_texts(data), _MOST))
            naming = [number for number, text in texts.items() if _SIDES.search(text)]
            if len(naming) < max(_FEWEST, _SHARE * len(texts)):
                return None
            for number in naming[:_SAMPLES]:
                draws = [default_convert(data[number]) for _ in range(_DRAWS)]
                words = _words(draws[0])
                mirrored = [draw for draw in draws[1:] if words and _mirrored(draws[0], draw)]
                same = [_words(draw) == words for draw in mirrored]
                kept, changed = kept + (bool(same) and all(same)), changed + (not all(same))
                example = example or (texts[number] if same and all(same) else "")
        except Exception as error:  # a data set of the user's
            raise NoEvidence(f"the data set raises {type(error).__name__} when a sample is read") from None
    return (kept, example) if kept >= max(_FEWEST, changed + 1) else None


def _texts(data: Any) -> Iterator[tuple[int, str]]:
    """The number of each sample, and its stored texts."""
    bottom, chosen = at_bottom(data, list(range(len(data))))
    columns = columns_of(bottom)
    for number, place in enumerate(chosen):
        yield number, " ".join(text for column in columns for text in _strings(column[place]))


def _strings(thing: Any) -> list[str]:
    """The texts of several words in an object, without names and paths of files."""
    if isinstance(thing, dict | tuple):
        thing = list(thing.values() if isinstance(thing, dict) else thing)
    strings = [thing] if isinstance(thing, str) else thing if isinstance(thing, list) else []
    if strings and all(isinstance(part, str) and " " not in part for part in strings):  # a list of words
        strings = [" ".join(strings)]
    texts = [part for part in strings if isinstance(part, str) and "/" not in part]
    return [text for text in texts if len(text.split()) >= _WORDS]


def _mirrored(one: Any, other: Any) -> bool:
    first, second = (main_tensor(parts(draw)[0]) for draw in (one, other))
    if first is None or second is None:
        return False
    for before, after in images([(first, second)]):
        turned = likeness(before, after.flip(-1))
        return turned > ALIKE and turned > likeness(before, after) + _CLEARER
    return False


def _words(sample: Any) -> list[Any]:
    """The texts of a sample, as strings or as token indices."""
    image = main_tensor(parts(sample)[0])
    numbers = [
        part.tolist()
        for _, part in leaves(sample)
        if part is not image and part.ndim == 1 and len(part) >= _WORDS and part.dtype in (torch.int64, torch.int32)
    ]
    return [*numbers, *_strings(sample)]
