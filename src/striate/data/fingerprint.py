"""The fingerprint of a data set: a run resumes only with the data that it began with.

There are two kinds. For arrays, and everything that cannot be packed or streamed, it is a hash of the values. For files
of images and spectrograms it begins with "contents-", and is a hash of the files, which were hashed when they were
first read; it is the same in every store. A run with a fingerprint of one kind is compared by that kind.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch

from striate.data.dataset import Preparation, Split
from striate.data.targets import arrays_of

_CONTENTS = "contents-"
_CHUNK_BYTES = 8 << 20

Named = tuple[tuple[str, ...], tuple[str, ...], Preparation]


def fingerprint_of(
    splits: dict[str, Split],
    contents: dict[str, tuple[str, ...]],
    named: Named,
    of_files: bool,
    known: str | None = None,
) -> str:
    """SHA-256 over inputs, targets and membership of every split, and over the names of targets.

    `contents`: digests of the samples of each split. `named`: classes, names of numbers, and the preparation. The kind
    is that of `known`, if there is one, else "contents-" if `of_files`.
    """
    by_contents = of_files if known is None else known.startswith(_CONTENTS)
    classes, target_names, preparation = named
    words: list[object] = [classes, target_names]
    if by_contents:
        words += [preparation.input_shape, preparation.fit, preparation.reduced]
        words += [preparation.rate, preparation.hop] if preparation.rate else []
        words += [preparation.low, preparation.high, preparation.pages] if preparation.low else []
    digest = hashlib.sha256(json.dumps(words).encode())
    for name, split in splits.items():
        if by_contents:
            digest.update(f"{name} {len(split)};".encode())
            digest.update("".join(contents[name]).encode())
        else:
            _add_inputs(digest, name, split)
        if split.of_inputs:
            continue
        for field, values in arrays_of(split.targets).items():
            digest.update(f"{name}{field and f' {field}'} {values.dtype} {values.shape};".encode())
            digest.update(values.data)
    return (_CONTENTS if by_contents else "") + digest.hexdigest()


def _add_inputs(digest: hashlib._Hash, name: str, split: Split) -> None:
    """Add the inputs, a few at a time, since they may not be in memory."""
    x = split.inputs
    dtype = "uint8" if x.dtype == torch.uint8 else str(x[:1].numpy().dtype)
    digest.update(f"{name} {dtype} {tuple(x.shape)};".encode())
    step = max(1, _CHUNK_BYTES // max(1, int(np.prod(x.shape[1:])) * x.dtype.itemsize))
    for start in range(0, len(x), step):
        digest.update(np.ascontiguousarray(x[start : start + step].numpy()).data)


def content_digest(data: bytes | memoryview) -> bytes:
    """16 bytes that are equal for equal bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()
