"""Files of weights, whoever wrote them; what is none is told, and never run."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import striate
from striate.errors import ModelError, StriateError
from striate.models.build import build_model
from striate.models.registry import MODELS
from striate.models.weights.saved import SavedNetwork
from striate.models.weights.weights_file import read_weights, weights_digest
from striate.runs.checkpoint import save_checkpoint

TENSORS = {"fc.weight": torch.arange(6.0).view(2, 3), "fc.bias": torch.ones(2)}


def same(tensors) -> bool:
    return list(tensors) == list(TENSORS) and all(torch.equal(tensors[k], TENSORS[k]) for k in TENSORS)


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict", "net"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_state_dict_alone_or_under_a_usual_key(key, legacy) -> None:
    content = OrderedDict(TENSORS) if key is None else {"epoch": 3, "lr": [0.1], key: dict(TENSORS)}
    torch.save(content, "some.pth", _use_new_zipfile_serialization=not legacy)
    weights = read_weights("some.pth")
    assert same(weights.tensors)
    assert type(weights).__name__ == "Weights"
    assert weights_digest(weights) == hashlib.sha256(Path("some.pth").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["some.safetensors", "no-suffix"])
def test_safetensors_are_known_by_their_content(name) -> None:
    save_file(TENSORS, name)
    assert same(dict(sorted(read_weights(name).tensors.items(), reverse=True)))


def test_a_checkpoint_says_what_its_network_is() -> None:
    content = {
        "model": TENSORS,
        "network": {"name": "fc(2)", "input_shape": [3], "dense": False},
        "task": {"name": "classify", "classes": ["a", "b"]},
        "classes": ["a", "b"],
        "preparation": {"kind": "table"},
        "normalization": {"mean": [1.0, 2.0, 3.0], "std": [1.0, 1.0, 4.0]},
    }
    save_checkpoint(Path("mine.pt"), content)
    saved = read_weights("mine.pt")
    assert isinstance(saved, SavedNetwork)
    assert (saved.name, saved.input_shape, saved.outputs, saved.kind) == ("fc(2)", (3,), 2, "table")
    assert (saved.mean, saved.std) == ((1.0, 2.0, 3.0), (1.0, 1.0, 4.0))
    assert same(saved.tensors)


class Runs:
    """A pickle that runs a command when it is opened as Python opens one."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def write_text() -> None:
    Path("bad.pt").write_text("these are no weights")


def write_code() -> None:
    torch.save({"a": Runs()}, "bad.pt")


def write_legacy_code() -> None:
    torch.save({"a": Runs()}, "bad.pt", _use_new_zipfile_serialization=False)


def write_bare_pickle() -> None:
    Path("bad.pt").write_bytes(pickle.dumps(Runs(), protocol=2))


def write_module() -> None:
    torch.save(nn.Linear(3, 2), "bad.pt")


def write_tensor() -> None:
    torch.save(torch.zeros(3), "bad.pt")


def write_other_things() -> None:
    torch.save({"epoch": 3, "optimizer": {"state": {}}}, "bad.pt")


def write_empty_dict() -> None:
    torch.save({}, "bad.pt")


def write_half() -> None:
    torch.save(TENSORS, "whole.pt")
    data = Path("whole.pt").read_bytes()
    Path("bad.pt").write_bytes(data[: len(data) // 2])


def write_half_safetensors() -> None:
    save_file(TENSORS, "whole.safetensors")
    data = Path("whole.safetensors").read_bytes()
    Path("bad.pt").write_bytes(data[:-8])


def write_nan() -> None:
    torch.save(TENSORS | {"fc.bias": torch.tensor([1.0, float("nan")])}, "bad.pt")


def write_npz() -> None:
    np.savez("bad.npz", a=np.zeros(3))
    Path("bad.npz").rename("bad.pt")


WRONG = [
    (write_text, "it begins with b'these are no we", "a state_dict"),
    (lambda: Path("bad.pt").touch(), "an empty file", "a state_dict"),
    (lambda: None, "no such file", "a state_dict"),
    (write_code, "posix.system, which is code: it was not run", "torch.save(network.state_dict()"),
    (write_legacy_code, "posix.system, which is code: it was not run", "torch.save(network.state_dict()"),
    (write_bare_pickle, "posix.system, which is code: it was not run", "torch.save(network.state_dict()"),
    (write_module, "torch.nn.modules.linear.Linear, which is code", "torch.save(network.state_dict()"),
    (write_tensor, "a Tensor", "torch.save(network.state_dict()"),
    (write_other_things, "a dict of other things: epoch, optimizer", "torch.save(network.state_dict()"),
    (write_empty_dict, "nothing", "torch.save(network.state_dict()"),
    (write_half, "a damaged or truncated file", "download the file again"),
    (write_half_safetensors, "a damaged or cut .safetensors file", "download the file again"),
    (write_nan, "fc.bias holds NaN or Inf", "earlier checkpoint"),
    (write_npz, "a damaged or truncated file, or one without weights", "download the file again"),
]


@pytest.mark.parametrize(("write", "words", "remedy"), WRONG, ids=[getattr(w[0], "__name__", "") for w in WRONG])
def test_what_is_no_file_of_weights_is_told_and_not_run(write, words, remedy) -> None:
    write()
    with pytest.raises(ModelError) as caught:
        read_weights("bad.pt")
    assert caught.value.where == "weights bad.pt"
    assert words in caught.value.got
    assert remedy in f"{caught.value.remedy} {caught.value.expected}"
    assert not Path("ran").exists()


def test_an_exported_program_names_the_run_instead(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08\n\x12\x07pytorch")
    with pytest.raises(ModelError, match="striate export wrote") as refused:
        read_weights(str(tmp_path / "a.onnx"))
    assert "--weights RUN" in refused.value.remedy


def test_a_near_name_is_offered_and_a_folder_is_a_run() -> None:
    torch.save(TENSORS, "resnet.pt")
    with pytest.raises(ModelError) as caught:
        read_weights("resnt.pt")
    assert caught.value.remedy == "--weights resnet.pt"
    Path("notes").touch()
    with pytest.raises(ModelError, match="check the path"):
        read_weights("notes2")
    Path("folder").mkdir()
    with pytest.raises(StriateError, match=r"a folder without config\.yaml"):
        read_weights("folder")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"\x08" + bytes(7) + b"{"]), st.binary(max_size=80)
)
def test_any_bytes_are_refused_in_words(beginning: bytes, rest: bytes) -> None:
    Path("bytes.pt").write_bytes(beginning + rest)
    with pytest.raises(ModelError):
        read_weights("bytes.pt")


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bits_are_looked_at_too(kind) -> None:
    narrow = {"fc.weight": torch.tensor([[1.0, -0.5]]).to(kind)}
    torch.save(narrow, "narrow.pt")
    assert read_weights("narrow.pt").tensors["fc.weight"].float().tolist() == [[1.0, -0.5]]
    torch.save({"fc.weight": torch.tensor([[1.0, float("nan")]]).to(kind)}, "bad.pt")
    with pytest.raises(ModelError, match=r"fc\.weight holds NaN or Inf"):
        read_weights("bad.pt")


def test_a_type_that_nothing_can_be_computed_with_is_named() -> None:
    torch.save({"fc.weight": torch.zeros(2, 2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)}, "four.pt")
    with pytest.raises(ModelError, match="float4_e2m1fn_x2"):
        read_weights("four.pt")


def test_the_home_folder_of_nobody_is_told() -> None:
    with pytest.raises(StriateError, match="no user has that name"):
        read_weights("~nosuchuser/weights.pt")


@pytest.mark.slow
@pytest.mark.each_nth(3)
@pytest.mark.parametrize("model", ["mlp(4)", "auto", "small-cnn"])
def test_weights_that_fit_no_table(model: str) -> None:
    torch.save(nn.Linear(7, 5).state_dict(), "w.pt")
    with pytest.raises(StriateError):
        striate.train("iris", model, weights="w.pt", epochs=1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(4,), (3, 5), (1, 2, 2), (1, 2, 2, 2)])
def test_every_network_of_the_zoo_takes_an_input_or_refuses_it(shape: tuple[int, ...]) -> None:
    for name in MODELS:
        with torch.device("meta"), suppress(StriateError):
            build_model(name, shape, 3)
