"""Weights by name: from a hub on this machine, with its cache, checksums and errors; torchvision's by their files."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.registry import MODELS
from striate.models.weights import named
from striate.models.weights.named import about_license, named_weights
from striate.models.weights.saved import Origin, Weights
from striate.models.weights.take_weights import take_weights
from striate.models.weights.weights_file import describe_weights, read_weights

sys.path.insert(0, str(Path(__file__).parent))
from a_hub import COMMIT, TIMM, hub_of

SMALL = "resnet18(width=2)"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    folder = root / "timm" / "resnet18.tv_in1k"
    folder.mkdir(parents=True)
    torch.manual_seed(3)
    save_file(build_model(SMALL, outputs=1000).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(TIMM))
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\ntags:\n- timm\n---\n# ResNet\n")
    (folder / "pytorch_model.bin").write_bytes(b"never fetched")
    other = root / "somebody" / "pickles"
    other.mkdir(parents=True)
    (other / "config.json").write_text("{}")
    return root


@pytest.fixture
def hub(repositories: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The cache of a machine that reaches the hub."""
    from huggingface_hub import constants

    with hub_of(repositories) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield tmp_path / "cache"


def test_names_are_told_from_paths() -> None:
    assert named_weights("resnet18.tv_in1k").repository == "timm/resnet18.tv_in1k"
    found = named_weights("somebody/flowers@v1.2")
    assert (found.repository, found.revision) == ("somebody/flowers", "v1.2")
    assert named_weights("ResNet50_Weights.DEFAULT").file == "resnet50-11ad3fa6.pth"
    Path("runs").mkdir()
    for path in ("runs/flowers", "weights.pth", "nets/resnet.safetensors", "flowers", "/tmp/x", "a/b/c"):
        assert named_weights(path) is None, path


def test_a_repository_is_fetched_once_with_what_it_says_of_itself(hub, monkeypatch) -> None:
    assert not named_weights("resnet18.tv_in1k").cached
    weights = read_weights("resnet18.tv_in1k")
    name, size = f"timm/resnet18.tv_in1k@{COMMIT}", (64, 96)
    assert weights.origin == Origin(name, "resnet18", (127.5, 102, 76.5), (51, 63.75, 76.5), size, "cc-by-nc-4.0")
    assert "forbids commercial use" in about_license(weights.origin)
    assert sorted(path.name for path in weights.file.parent.iterdir()) == ["README.md", "config.json", TENSORS]
    assert named_weights("resnet18.tv_in1k").cached
    network = build_model(SMALL, outputs=7)
    assert "last layer is new: 7 outputs instead of 1000" in take_weights(network, weights, 7)
    # Without a connection, and at that commit, the same.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert describe_weights(name) == weights.origin
    assert torch.equal(read_weights("timm/resnet18.tv_in1k").tensors["conv1.weight"], network.conv1.weight)
    # A file whose bytes have changed is not what was published.
    blob = weights.file.resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match="damaged"):
        read_weights(name)


TENSORS = "model.safetensors"


@pytest.mark.parametrize(
    ("name", "got", "remedy"),
    [
        ("somebody/nothing", "neither a local file nor a visible repository", "hf auth login"),
        ("somebody/gated", "conditions", "hf auth login"),
        ("timm/resnet18.tv_in1k@v9", "no revision v9", "leave out"),
        ("somebody/pickles", "without model.safetensors", "another"),
    ],
)
def test_what_a_hub_refuses_is_said_in_plain_words(hub, name, got, remedy) -> None:
    with pytest.raises(ModelError) as caught:
        read_weights(name)
    assert got in caught.value.got
    assert remedy in caught.value.remedy


def test_where_nothing_can_be_fetched_the_file_and_its_place_are_named(repositories, monkeypatch, tmp_path) -> None:
    with pytest.raises(ModelError) as caught:
        read_weights("resnet18.tv_in1k")
    assert "HF_HUB_OFFLINE" in caught.value.got
    assert "https://huggingface.co/timm/resnet18.tv_in1k/resolve/main/model.safetensors" in caught.value.remedy
    assert "--weights ./resnet18.tv_in1k" in caught.value.remedy
    Path("resnet18.tv_in1k").symlink_to(repositories / "timm" / "resnet18.tv_in1k")
    put = read_weights("./resnet18.tv_in1k")
    assert (put.origin.network, put.origin.name) == ("resnet18", "")
    with pytest.raises(ModelError, match="resnet18-f37072fd") as caught:
        read_weights("ResNet18_Weights.IMAGENET1K_V1")
    assert "/nonexistent/torch/hub/checkpoints/resnet18-f37072fd.pth" in caught.value.remedy
    with pytest.raises(ModelError) as caught:
        read_weights("ResNet18_Weights.IMAGENET21K")
    assert caught.value.remedy == "--weights ResNet18_Weights.IMAGENET1K_V1"
    monkeypatch.setattr(named, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"striate\[hub\]"):
        read_weights("resnet34.tv_in1k")


def test_torchvisions_file_is_fetched_into_torchs_cache_and_checked(monkeypatch, tmp_path) -> None:
    (tmp_path / "server").mkdir()
    torch.save(build_model(SMALL, outputs=1000).state_dict(), tmp_path / "made.pth")
    content = (tmp_path / "made.pth").read_bytes()
    file = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setitem(MODELS["resnet18"].weight_files, "IMAGENET1K_V1", file)
    monkeypatch.setattr(named, "_TORCHVISION", f"file://{tmp_path}/server/")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(ModelError, match="not downloadable"):
        read_weights("ResNet18_Weights.IMAGENET1K_V1")
    (tmp_path / "server" / file).write_bytes(content[:-1] + b"?")
    with pytest.raises(ModelError, match="invalid hash"):
        read_weights("ResNet18_Weights.IMAGENET1K_V1")
    (tmp_path / "server" / file).write_bytes(content)
    weights = read_weights("ResNet18_Weights.IMAGENET1K_V1")
    assert weights.file == tmp_path / "torch" / "hub" / "checkpoints" / file
    assert (weights.origin.mean, weights.origin.size) == ((123.675, 116.28, 103.53), (224, 224))
    weights.file.write_bytes(content[:-1] + b"?")
    with pytest.raises(ModelError, match="damaged"):
        read_weights("ResNet18_Weights.IMAGENET1K_V1")


def test_every_file_of_torchvision_names_its_checksum_and_its_network() -> None:
    known = {name: info for name, info in MODELS.items() if info.weights == "torchvision"}
    assert {name for name, info in MODELS.items() if info.weight_files} == set(known)
    for info in known.values():
        assert set(info.weight_files) <= {"IMAGENET1K_V1", "IMAGENET1K_V2"}
        assert all(len(file.rpartition("-")[2].removesuffix(".pth")) == 8 for file in info.weight_files.values())


def test_timms_vgg_ends_in_convolutions_over_the_whole_map() -> None:
    network = build_model("vgg11(width=1)", outputs=5)
    wide = dict(network.state_dict())
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    timm = {}
    for key, value in wide.items():
        layer, _, what = key.rpartition(".")
        side = {"classifier.0": 7, "classifier.3": 1}.get(layer)
        shaped = value.reshape(len(value), -1, side, side) if side and what == "weight" else value
        timm[f"{names.get(layer, layer)}.{what}"] = shaped.clone()
    other = build_model("vgg11(width=1)", outputs=5)
    take_weights(other, Weights("x", Path("x"), timm), 5)
    assert all(torch.equal(value, wide[key]) for key, value in other.state_dict().items())
