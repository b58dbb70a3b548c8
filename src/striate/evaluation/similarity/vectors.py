"""Vectors that files are compared by: embeddings, or, of any other network, the features before its outputs.

They are cached under the content of the file and of the network: a changed file, or a network that is trained further,
has other vectors. A cache that is damaged, or belongs to another user, is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.fingerprint import content_digest
from striate.data.predict_inputs import read_inputs
from striate.errors import RunError
from striate.machine.cache import cache_folder
from striate.runs.files import write_atomic
from striate.tasks.registry import task_to_state
from striate.training.trained import Trained
from striate.version import VERSION
from striate.visualize.inside.features import Features, find_features

_AT_ONCE = 64
_MOST_CACHED = 2_000_000_000
"""Largest cache of one network in bytes; beyond it, only the vectors of the last request are cached."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FileVectors:
    """The vectors of picture files."""

    paths: tuple[str, ...]
    """The files that could be read."""
    vectors: Vectors
    """(N, D) float32 of length 1, a row for each of `paths`."""
    unreadable: tuple[tuple[str, str], ...]
    """Each other file, and why it could not be read."""
    source: str
    """What the vectors are, in words."""
    computed: int
    """How many vectors were not cached."""


def file_vectors(trained: Trained, files: Sequence[str]) -> FileVectors:
    """Vectors of picture files, in their order. Raises DataError where the network cannot read files."""
    cache, digests = _Cache.of(trained), [_digest(file) for file in files]
    found = {digest: vector for digest in digests if digest and (vector := cache.get(digest)) is not None}
    missing = {digest: file for file, digest in zip(files, digests, strict=True) if digest and digest not in found}
    reasons: dict[bytes | None, str] = {None: "no file that can be read"}
    order, source = list(missing), ""
    for start in range(0, len(order), _AT_ONCE):
        part = order[start : start + _AT_ONCE]
        read = list(zip(part, read_inputs([missing[d] for d in part], trained.preparation), strict=True))
        reasons |= {digest: one.error for digest, one in read if one.error is not None}
        if usable := [(digest, one.input) for digest, one in read if one.input is not None]:
            vectors, source = compute_vectors(trained, np.stack([raw for _, raw in usable]))
            found |= {digest: vector for (digest, _), vector in zip(usable, vectors, strict=True)}
    cache.save({digest: found[digest] for digest in missing if digest in found}, set(digests))
    pairs = list(zip(files, digests, strict=True))
    known = [(file, found[digest]) for file, digest in pairs if digest in found]
    unreadable = tuple((file, reasons[digest]) for file, digest in pairs if digest not in found)
    stacked = np.stack([vector for _, vector in known]) if known else np.empty((0, 1), np.float32)
    return FileVectors(tuple(file for file, _ in known), stacked, unreadable, source, len(order))


def sample_features(trained: Trained, raw: torch.Tensor) -> Features:
    """The embeddings of raw inputs (N, …), where the network outputs embeddings; else the features of
    `find_features`."""
    if trained.task.gives_vector:
        return Features(trained.decode(raw).numpy().astype(np.float32), "embeddings")
    normalize = trained.normalization.on(trained.device, raw.ndim)
    return find_features(trained.module, normalize(raw.to(trained.device)))


def compute_vectors(trained: Trained, inputs: NDArray[Any]) -> tuple[Vectors, str]:
    """(N, D) vectors of length 1 of raw inputs (N, …), and what they are in words."""
    features = sample_features(trained, torch.from_numpy(inputs))
    if trained.task.gives_vector:
        return features.values, features.source
    lengths = np.linalg.norm(features.values, axis=1, keepdims=True)
    return (features.values / np.where(lengths > 0, lengths, 1)).astype(np.float32), features.source


def _digest(file: str) -> bytes | None:
    try:
        path = Path(file)
        return content_digest(path.read_bytes()) if stat.S_ISREG(path.stat().st_mode) else None
    except OSError:
        return None


class _Cache:
    """The vectors of one network, by the digest of the file's content."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.digests, self.vectors = self._read()
        self.places = {digest.tobytes(): place for place, digest in enumerate(self.digests)}

    @staticmethod
    def of(trained: Trained) -> _Cache:
        folder = cache_folder()
        if folder is None:
            return _Cache(None)
        digest = hashlib.sha256()
        prepared = [asdict(trained.preparation), asdict(trained.normalization), task_to_state(trained.task)]
        words = [VERSION, torch.__version__, str(trained.module), trained.views, prepared]
        digest.update(json.dumps(words, default=str).encode())
        for name, tensor in trained.module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return _Cache(folder / "vectors" / f"{digest.hexdigest()[:32]}.npz")

    def _read(self) -> tuple[NDArray[np.uint8], Vectors]:
        nothing = np.empty((0, 16), np.uint8), np.empty((0, 1), np.float32)
        if self.path is None:
            return nothing
        try:
            status = self.path.lstat()
            mine = not hasattr(os, "geteuid") or status.st_uid in (os.geteuid(), 0)
            if not (stat.S_ISREG(status.st_mode) and mine):
                return nothing
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                digests, vectors = saved["digests"], saved["vectors"]
        except Exception:  # a damaged archive raises one of many types
            return nothing
        whole = digests.dtype == np.uint8 and vectors.dtype == np.float32 and digests.ndim == vectors.ndim == 2
        fits = whole and len(digests) == len(vectors) and digests.shape[1] == 16 and np.isfinite(vectors).all()
        return (digests, vectors) if fits else nothing

    def get(self, digest: bytes) -> NDArray[np.float32] | None:
        """The vector of a file with this content; None where it is not cached."""
        place = self.places.get(digest)
        return None if place is None else self.vectors[place]

    def save(self, new: dict[bytes, NDArray[np.float32]], keep: set[bytes | None]) -> None:
        """Add the new vectors, if the file can be written."""
        if self.path is None or not new:
            return
        rows = np.stack(list(new.values()))
        digests = np.frombuffer(b"".join(new), np.uint8).reshape(-1, 16)
        if len(self.digests):
            chosen = np.ones(len(self.digests), bool)
            if self.vectors.nbytes + rows.nbytes > _MOST_CACHED:
                chosen = np.array([digest.tobytes() in keep for digest in self.digests])
            rows = np.concatenate([self.vectors[chosen], rows])
            digests = np.concatenate([self.digests[chosen], digests])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, lambda file: np.savez(file, allow_pickle=False, digests=digests, vectors=rows))
        except (RunError, OSError):
            return
