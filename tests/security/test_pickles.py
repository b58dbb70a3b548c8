"""Pickles and files of arrays from strangers: nothing in them is run, none takes more memory than it has bytes."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.errors import StriateError
from striate.models.weights.weights_file import read_weights
from striate.runs.safe_load import load_safely


class Runs:
    """Runs a command when it is opened as Python opens a pickle."""

    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.fixture(autouse=True)
def nothing_ran():
    yield
    assert not Path("ran").exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_as_a_cifar_batch_is_not_run(striate, protocol) -> None:
    Path("set").mkdir()
    Path("set/data_batch_1").write_bytes(pickle.dumps({"data": Runs(), "labels": [0]}, protocol))
    striate("data", "show", "set", "--out", "sheet.png").refused("it asks for posix.system")


def test_code_in_an_npz_is_not_run(striate) -> None:
    np.savez("x.npz", x=np.array([Runs(), Runs()], dtype=object), y=np.zeros(2))
    striate("data", "show", "x.npz", "--out", "sheet.png").refused("arrays of Python objects")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_as_a_checkpoint_is_not_run(striate, zipped) -> None:
    torch.save({"format": 1, "model": Runs()}, "x.pt", _use_new_zipfile_serialization=zipped)
    Path("x.png").write_bytes(b"")
    reason = "posix.system, which is code: it was not run" if zipped else "not a checkpoint"
    for words in (["predict", "x.pt", "x.png"], ["summary", "mlp", "--input", "1x28x28", "--against", "./x.pt"]):
        refused = striate(*words)
        refused.refused(reason)
        assert "weights_only" not in refused.err, "torch's advice to load it all the same"
    striate("train", "mnist5k", "--weights", "x.pt", "--model", "mlp").refused("posix.system, which is code")


# Memory: a file may ask for no more than it has bytes


def header_of(shape: str, kind: str = "|u1") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (10 + len(text)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "header",
    [
        header_of("(9223372036854775807,)"),
        header_of("(4611686018427387904, 8)"),
        header_of("(-1, 4)"),
        header_of("(__import__('os').system('touch ran'),)"),
        header_of("(" * 2000 + ")" * 2000),
        header_of("(4, 5)", "|O"),
        header_of("(1000000, 300000)", "<f8"),
    ],
    ids=["2^63", "2^65", "negative", "code", "nested", "objects", "terabytes"],
)
def test_a_header_of_an_array_that_promises_too_much(striate, header) -> None:
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("x.npy", header + bytes(20))
        archive.writestr("y.npy", header_of("(4,)") + bytes(4))
    striate("data", "show", "x.npz", "--out", "sheet.png").refused("x.npz")


def test_a_member_that_is_no_array(striate) -> None:
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")
        archive.writestr("y.npy", header_of("(4,)") + bytes(4))
    striate("data", "show", "x.npz", "--out", "sheet.png").refused("x is not an array")


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 4, (2**31, 2**31, 2), (0, 2**32 - 1, 2**32 - 1)])
def test_an_idx_header_that_promises_too_much(striate, shape) -> None:
    Path("set").mkdir()
    Path("set/train-images-idx3-ubyte").write_bytes(
        bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(8)
    )
    Path("set/train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 0]))
    striate("data", "show", "set", "--out", "sheet.png").refused("train-images-idx3-ubyte")


def batch(name: str, pickled: bytes) -> Path:
    folder = Path(name)
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickled)
    return folder


def array_pickle(pieces: int) -> bytes:
    """A list of `pieces` arrays, each of the same megabyte."""
    out = io.BytesIO()
    out.write(b"\x80\x02}X\x04\x00\x00\x00data(")
    raw = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20)
    for i in range(pieces):
        out.write(b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J" + struct.pack("<i", 1 << 20) + b"\x85")
        out.write(b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R\x89")
        out.write(raw + b"q\x01" if i == 0 else b"h\x01")
        out.write(b"tb")
    out.write(b"ls.")
    return out.getvalue()


MEMORY = {
    "buffer": b"\x80\x05\x96" + struct.pack("<Q", 8 << 30) + b".",
    "copies-of-a-text": b"\x80\x02X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x01c_codecs\nencode\nq\x02("
    b"h\x02h\x01\x85R" + b"h\x02h\x01\x85R" * 4000 + b"l.",
    "copies-of-an-array": array_pickle(4000),
}


@pytest.mark.slow
def test_small_pickles_that_ask_for_much_memory(measured) -> None:
    sets = [batch(name, pickled) for name, pickled in MEMORY.items()]
    for told in measured(*(("data", "show", folder, "--out", "sheet.png") for folder in sets)):
        told.refused("damaged or not plain data")
        assert told.memory < 700


def rewritten(change, compression: int = zipfile.ZIP_STORED) -> Path:
    """A file of torch.save with its members changed by `change(name, content)`."""
    torch.save({"w": torch.zeros(4)}, "plain.pt")
    with zipfile.ZipFile("plain.pt") as source, zipfile.ZipFile("x.pt", "w", compression) as out:
        for info in source.infolist():
            out.writestr(info.filename, change(info.filename, source.read(info)))
    return Path("x.pt")


def with_pickle(pickled: bytes):
    return lambda name, data: pickled if name.endswith("data.pkl") else data


LIST = b"(" + b"K\x01" * 20_000 + b"t"
BOMBS = {
    "buffer": with_pickle(b"\x80\x02cbuiltins\nbytearray\nJ\x00\x00\x00\x70\x85R."),
    "buffer-by-another": with_pickle(
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cbuiltins\nbytearray\nctorch\nTensor\nJ\x00\x00\x00\x70\x85}tR."
    ),
    "copies": with_pickle(b"\x80\x02" + LIST + b"q\x00ctorch\nSize\nq\x01(" + b"h\x01h\x00\x85R" * 9_000 + b"t."),
    "copies-of-a-dict": with_pickle(
        b"\x80\x02}(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(5000)) + b"u"
        b"q\x00ccollections\nOrderedDict\nq\x01(" + b"h\x01h\x00\x85R" * 5_000 + b"t."
    ),
    "hashing": with_pickle(
        b"\x80\x02}("
        + b")"
        + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(200))
        + b"K\x01u."
    ),
    "strides": with_pickle(
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00J\x00\x00\x00\x70\x85K\x00\x85\x89ccollections\nOrderedDict\n)RtRs."
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_checkpoint_that_describes_more_than_it_holds(name) -> None:
    path = rewritten(BOMBS[name])
    with pytest.raises(pickle.UnpicklingError):
        load_safely(path)
    with pytest.raises(StriateError):
        read_weights(str(path))


def test_compressed_weights_are_refused() -> None:
    path = rewritten(lambda _, data: data, zipfile.ZIP_DEFLATED)
    with pytest.raises(StriateError, match="compressed records"):
        read_weights(str(path))


def test_what_torch_writes_is_loaded_as_it_is() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    shared = torch.arange(4.0)
    content = {"model": model.state_dict(), "two": [shared, shared], "size": torch.Size((2, 3)), "kind": torch.float16}
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    content |= {
        "optim": optimizer.state_dict(),
        "text": "ä",
        "bytes": b"\xff",
        "none": None,
        "parameter": model[0].weight,
    }
    for zipped in (True, False):
        torch.save(content, "x.pt", _use_new_zipfile_serialization=zipped)
        loaded = load_safely(Path("x.pt"))
        assert list(loaded) == list(content)
        assert loaded["bytes"] == b"\xff"
        assert all(torch.equal(loaded["model"][k], v) for k, v in content["model"].items())
        assert torch.equal(loaded["optim"]["state"][0]["exp_avg"], content["optim"]["state"][0]["exp_avg"])
