"""Networks of timm, where it can be imported; here another module stands for it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from striate.errors import InputMisfit, ModelError
from striate.models.build import build_model


class _Timm(ModuleType):
    """What is used of timm: two networks, one of which takes a single size of image."""

    __version__ = "1.0"
    sizes = {"convnext_tiny": (3, 224, 224), "vit_tiny_patch16_224": (3, 32, 32)}  # noqa: RUF012

    def is_model(self, name: str) -> bool:
        return name in self.sizes

    def list_models(self) -> list[str]:
        return list(self.sizes)

    def get_pretrained_cfg(self, name: str, allow_unregistered: bool) -> SimpleNamespace:
        assert allow_unregistered
        return SimpleNamespace(input_size=self.sizes[name])

    def create_model(self, name: str, pretrained: bool, num_classes: int, in_chans: int) -> nn.Module:
        assert not pretrained
        network = nn.Sequential(
            nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
        )
        if name.startswith("vit"):
            network.patch_embed = SimpleNamespace(strict_img_size=True)
        return network


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", _Timm("timm"))


def test_a_network_of_timm_is_made_for_channels_and_classes(timm) -> None:
    network = build_model("timm/convnext_tiny", (1, 20, 24), 5)
    assert network(torch.zeros(2, 1, 20, 24)).shape == (2, 5)
    assert build_model("timm/convnext_tiny")(torch.zeros(1, 3, 30, 30)).shape == (1, 1000)
    maps = build_model("timm/convnext_tiny", (3, 32, 32), 5, dense=False)
    assert isinstance(maps, nn.Module)


def test_what_timm_does_not_have_or_take_is_refused_with_what_it_does(timm) -> None:
    with pytest.raises(ModelError) as caught:
        build_model("timm/convnext_tin", (3, 32, 32), 5)
    assert caught.value.remedy == "--model timm/convnext_tiny"
    with pytest.raises(ModelError) as caught:
        build_model("timm/convnext_tiny.in1k", (3, 32, 32), 5)
    assert caught.value.remedy == "--model timm/convnext_tiny --weights timm/convnext_tiny.in1k"
    with pytest.raises(ModelError, match="images"):
        build_model("timm/convnext_tiny", (4,), 5)
    with pytest.raises(InputMisfit) as caught:
        build_model("timm/vit_tiny_patch16_224", (3, 48, 48), 5)
    assert caught.value.remedy == "--size 32x32"


def test_where_timm_cannot_be_imported_the_reason_is_said(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError) as caught:
        build_model("timm/convnext_atto", (3, 32, 32), 5)
    assert "striate[timm]" in caught.value.remedy

    class Broken:
        def find_spec(self, name, *_):
            if name == "timm":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ModelError, match="torchvision::nms does not exist"):
        build_model("timm/convnext_atto", (3, 32, 32), 5)
