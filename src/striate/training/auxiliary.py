"""Auxiliary heads, which exist during training only: a rotation head on the trunk, and classifiers on inner layers.

Rotation: Gidaris, Singh and Komodakis, "Unsupervised representation learning by predicting image rotations", 2018.
Inner classifiers: Szegedy et al., "Going deeper with convolutions", 2014.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from striate.data.counter_random import hash_key
from striate.data.transfer import sent
from striate.errors import ConfigError
from striate.models.features import output_layer
from striate.models.preserved_state import preserved
from striate.observe.module_calls import forward_hooks
from striate.tasks.task import Feature
from striate.training.config import AuxiliaryConfig
from striate.wording import show_shape

TURNS = 4


class AuxiliaryHeads(nn.Module):
    """The rotation head and the classifiers of a network.

    `rotation`: from the input of the output layer to (N, 4) logits of quarter turns. `classifiers`: from the mean of
    each map of the named inner layers to (N, K) outputs of the task. A task that needs a map (`dense`) has a 1 × 1
    convolution instead, from the maps to (N, K, *positions) of the size of the input.
    """

    def __init__(
        self,
        output: str,
        features: int,
        outputs: int,
        layers: dict[str, int],
        *,
        rotation: bool,
        device: torch.device,
        dense: int = 0,
    ) -> None:
        """`dense`: number of axes of the maps; 0 for tasks without maps."""
        super().__init__()
        self.dense = dense
        self.output = output
        self.layers = tuple(layers)
        self.rotation = nn.Linear(features, TURNS, device=device) if rotation else None
        self.classifiers = nn.ModuleList(_classifier(size, outputs, dense, device) for size in layers.values())

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
        """Collects the inputs of the heads from each forward pass of `module` while open: by layer, pooled (N, C), or
        maps."""
        with watched_features(module, self.output, self.layers, dense=bool(self.dense)) as found:
            yield found

    def inner_outputs(
        self, found: Mapping[str, torch.Tensor], count: int, size: tuple[int, ...]
    ) -> tuple[torch.Tensor, ...]:
        """The outputs of each classifier for the first `count` samples of `found`; maps are enlarged (linearly) to the
        `size` of the input."""
        pairs = zip(self.layers, self.classifiers, strict=True)
        outputs = [classifier(found[layer][:count].float()) for layer, classifier in pairs]
        if not self.dense:
            return tuple(outputs)
        mode = _MODES[self.dense]
        return tuple(functional.interpolate(maps, size, mode=mode, align_corners=False) for maps in outputs)


_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def _classifier(size: int, outputs: int, dense: int, device: torch.device) -> nn.Module:
    return _CONVOLUTIONS[dense](size, outputs, 1, device=device) if dense else nn.Linear(size, outputs, device=device)


@contextmanager
def watched_features(
    module: nn.Module, output: str, layers: tuple[str, ...], *, dense: bool
) -> Iterator[dict[str, torch.Tensor]]:
    """Collects, for each forward pass while open, the input of the layer `output` (under the key ""), averaged over
    positions to (N, C), and the outputs of `layers`: averaged too, or as maps where `dense`."""
    least = 3 if dense else 2
    found: dict[str, torch.Tensor] = {}

    def before(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        found[""] = _pooled(inputs[0])

    def after(name: str) -> Callable[[nn.Module, object, object], None]:
        def keep(_: nn.Module, __: object, result: object) -> None:
            if not isinstance(result, torch.Tensor) or result.ndim < least:
                raise ConfigError(
                    "auxiliary.layers",
                    f"{name!r}, whose output is not a batch of {'maps' if dense else 'features or maps'}",
                    "a layer such as a convolution or its activation",
                    "name another layer",
                )
            found[name] = result.clone() if dense else _pooled(result)

        return keep

    inner = [(module.get_submodule(name), after(name)) for name in layers]
    with forward_hooks([(module.get_submodule(output), before)], inner):
        yield found


def _pooled(features: torch.Tensor) -> torch.Tensor:
    # The next layer may write into this tensor (an inplace activation).
    return features.flatten(2).mean(2) if features.ndim > 2 else features.clone()


def make_heads(
    module: nn.Module, config: AuxiliaryConfig, needs: Feature, outputs: int, sample: torch.Tensor
) -> AuxiliaryHeads | None:
    """The heads of `config`, sized by a forward pass of `sample` (a normalized batch); None where `config` has none.
    `needs`: the features that the task needs. Weights are drawn from torch's random state. Raises ConfigError."""
    if not (config.rotation or config.layers):
        return None
    output, dense = _check(module, config, needs, sample), needs == "map"
    with watched_features(module, output, config.layers, dense=dense) as found, preserved(module), torch.no_grad():
        module(sample)
    idle = [name for name in config.layers if name not in found]
    if idle or "" not in found:
        raise ConfigError(
            "auxiliary",
            f"the layer {idle[0] if idle else output}, which never runs",
            "a layer that runs",
            "leave out this layer",
        )
    sizes = {name: found[name].shape[1] for name in config.layers}
    features = found[""].shape[1]
    axes = sample.ndim - 2 if dense else 0
    rotates = bool(config.rotation)
    return AuxiliaryHeads(output, features, outputs, sizes, rotation=rotates, device=sample.device, dense=axes)


def _check(module: nn.Module, config: AuxiliaryConfig, needs: Feature, sample: torch.Tensor) -> str:
    """The name of the output layer. Raises ConfigError for heads that this network or task cannot have."""
    if config.layers and needs not in ("vector", "map"):
        got = f"classifiers on inner layers for a task that needs a {needs}"
        raise ConfigError(
            "auxiliary.layers", got, "a task that needs a vector or a map", "leave out --auxiliary.layers"
        )
    if config.rotation and (sample.ndim != 4 or sample.shape[2] != sample.shape[3]):
        size = show_shape(sample.shape[2:]) if sample.ndim > 2 else "a table"
        raise ConfigError(
            "auxiliary.rotation",
            f"inputs of {size}",
            "square images, which can be rotated by quarter turns",
            "--auxiliary.rotation 0",
        )
    names = [name for name, _ in module.named_modules() if name]
    unknown = [name for name in config.layers if name not in names]
    if unknown:
        listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
        raise ConfigError("auxiliary.layers", repr(unknown[0]), f"layers of the network: {listed}", "name one of these")
    again = [name for place, name in enumerate(config.layers) if name in config.layers[:place]]
    if again:
        once = f"[{','.join(dict.fromkeys(config.layers))}]"
        raise ConfigError(
            "auxiliary.layers", f"{again[0]} twice", "each layer once", f"--auxiliary.layers {shlex.quote(once)}"
        )
    output = output_layer(module)
    if output is None:
        raise ConfigError(
            "auxiliary",
            "a network without kernels and matrices",
            "a network with layers to share",
            "leave out --auxiliary.…",
        )
    if output in config.layers:
        raise ConfigError(
            "auxiliary.layers", f"{output}, the output layer itself", "an inner layer", "leave out --auxiliary.layers"
        )
    return output


def turned(
    images: torch.Tensor, *key: int, start: int = 0, samples: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, C, S, S) images, each turned counterclockwise by 0 to 3 quarters, and the (N,) int64 numbers of quarters, a
    function of the integers `key`. Images that are a part of a batch of `samples` images, from number `start` on, are
    turned as in the whole batch."""
    generator = torch.Generator().manual_seed(hash_key(*key))
    drawn = torch.randint(TURNS, (samples or len(images),), generator=generator)
    quarters = drawn[start : start + len(images)]
    result = images.clone(memory_format=torch.preserve_format)
    for k in range(1, TURNS):
        # Indices rather than a mask: their number is known on the host, which need not wait for an accelerator.
        rows = sent((quarters == k).nonzero()[:, 0], images.device)
        result[rows] = torch.rot90(images[rows], k, (2, 3))
    return result, sent(quarters, images.device)
