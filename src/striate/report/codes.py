"""The report's pictures of the codes of an autoencoder: a map of the codes, and images decoded between two images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.layers.code import code_layer
from striate.models.preserved_state import on_trial
from striate.observe.module_calls import forward_hooks
from striate.tasks.task import Task
from striate.training.prepare import Prepared
from striate.visualize.canvas import of_split, save_figure
from striate.visualize.inside.embedding import FEWEST, Method, embed_features, embedding_figure
from striate.visualize.inside.features import find_features
from striate.visualize.inside.passes import evenly_spaced
from striate.visualize.page_parts import Picture
from striate.visualize.reconstruction_figures import as_bytes, codes_figure

_MAPPED, _WALKS, _STEPS, _DPI = 1_000, 5, 9, 80
_METHODS: tuple[Method, ...] = ("pca", "tsne")


@dataclass(frozen=True, eq=False)
class Codes:
    """The codes of an autoencoder for samples of a split."""

    values: NDArray[np.float32]
    """(N, code), their codes."""
    images: NDArray[np.uint8]
    """(N, C, H, W) uint8."""
    labels: NDArray[np.int64] | None
    """(N,) class numbers; None where there are no classes."""
    classes: tuple[str, ...]
    """Names of the classes; empty where there are none."""
    walks: tuple[NDArray[np.uint8], ...]
    """Rows of images (steps, C, H, W) uint8, decoded from codes between those of two images."""
    title: str
    """What the samples are, in words."""


def find_codes(prepared: Prepared) -> Codes | None:
    """The codes of at most 1,000 samples of the held-out split; None for a network without codes, for one that does not
    reconstruct images, and for few samples."""
    data, module, task = prepared.data, prepared.state.eval_module, prepared.task
    split = data.splits[data.held_out]
    if code_layer(module) is None or not task.learns_inputs or len(split) < FEWEST or data.input_shape[0] not in (1, 3):
        return None
    rows = evenly_spaced(len(split), _MAPPED)
    raw = split.inputs[rows]
    x = prepared.normalize(raw.to(prepared.device))
    values = find_features(module, x).values
    if not (values != values[:1]).any():
        return None
    facts = data.facts.get(data.held_out)
    names = () if facts is None else facts.columns.get("class", ())
    labels, classes = None, ()
    if names:
        found, numbers = np.unique([names[row] for row in rows.tolist()], return_inverse=True)
        labels, classes = numbers, tuple(found.tolist())
    pairs = _pairs(labels, len(raw))
    walks = tuple(_walk(module, task, x, values, *pair) for pair in pairs)
    title = of_split(data.name, data.held_out, len(split))
    return Codes(values, raw.cpu().numpy(), labels, classes, walks, title)


def _pairs(labels: NDArray[np.int64] | None, count: int) -> list[tuple[int, int]]:
    """Pairs of samples, of two classes where there are several."""
    if labels is None or not np.ptp(labels):
        return [(k, count - 1 - k) for k in range(min(_WALKS, count // 2))]
    firsts = [int(np.flatnonzero(labels == number)[0]) for number in range(int(labels.max()) + 1)]
    return list(zip(firsts[::2], firsts[1::2], strict=False))[:_WALKS]


@torch.no_grad()
def _walk(
    module: nn.Module, task: Task, x: torch.Tensor, values: NDArray[np.float32], first: int, last: int
) -> NDArray[np.uint8]:
    """(steps, C, H, W): images decoded from codes that are evenly spaced between those of two samples."""
    layer = code_layer(module)
    assert layer is not None
    ends = torch.from_numpy(values[[first, last]]).to(x.device)
    codes = torch.lerp(ends[:1], ends[1:], torch.linspace(0, 1, _STEPS, device=x.device)[:, None])

    def put(_: nn.Module, __: Any, ___: Any) -> torch.Tensor:
        return codes

    with on_trial(module), forward_hooks(after=[(layer, put)]):
        outputs = module(x[first : first + 1].expand(_STEPS, *x.shape[1:]))
    return as_bytes(task.decode(outputs).cpu().numpy())


def draw_codes(folder: Path, codes: Codes | None) -> tuple[Picture, ...]:
    """`codes.png`, all codes in two dimensions, and `between.png`, images decoded between two images."""
    if codes is None:
        return ()
    maps = [embed_features(codes.values, "the code", method=method) for method in _METHODS]
    figure = embedding_figure(maps, title=codes.title, labels=codes.labels, classes=codes.classes, images=codes.images)
    path = save_figure(figure, folder / "codes.png", _DPI)
    caption = (
        f"{codes.title}; {len(codes.values):,} of them. Each point is the code of an image of {codes.values.shape[1]}"
    )
    caption += " numbers. The network was trained without the classes." if codes.classes else " numbers."
    pictures = [Picture("Map of the codes", caption, path, "samples")]
    if codes.walks:
        path = save_figure(
            codes_figure(codes.walks, title=f"{codes.title}: between two images"), folder / "between.png", _DPI
        )
        caption = (
            f"{codes.title}. Each row: the codes of two images, and what the decoder outputs for codes between them."
        )
        pictures.append(Picture("Between two images", caption, path, "samples"))
    return tuple(pictures)
