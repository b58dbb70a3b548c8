"""What tells one data set from another: a run goes on only with the data that it began with.

There are two sorts. That of arrays is a hash of the values themselves, as it is of whatever is never packed or
streamed. That of files of images and spectrograms begins with "contents-", and is a hash of the files that they are
decoded from: these were hashed when they were first looked at, and it is the same wherever the inputs lie, in memory,
in a pack or nowhere. A run that has a fingerprint of one sort is compared by that sort.
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
    """SHA-256 over inputs, targets and membership of every split, and over what the targets are called.

    `contents` are the digests of the samples of each split, `named` the classes, the names of numbers, and how inputs
    are prepared. The sort is that of `known`, where there is one, else "contents-" if `of_files`.
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
    """The inputs, a few at a time: they may lie elsewhere than in memory."""
    x = split.inputs
    dtype = "uint8" if x.dtype == torch.uint8 else str(x[:1].numpy().dtype)
    digest.update(f"{name} {dtype} {tuple(x.shape)};".encode())
    step = max(1, _CHUNK_BYTES // max(1, int(np.prod(x.shape[1:])) * x.dtype.itemsize))
    for start in range(0, len(x), step):
        digest.update(np.ascontiguousarray(x[start : start + step].numpy()).data)


def content_digest(data: bytes | memoryview) -> bytes:
    """16 bytes that are equal for equal bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()
