"""`file.py:function`: its name, its digest, and that its code neither prints to stdout nor takes the program down."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from striate.errors import ModelError
from striate.models.build import build_model
from striate.models.from_file import resolve_name, source_digest

LOUD = """
from torch import nn
print("import")
class Loud(nn.Module):
    def __init__(self):
        super().__init__()
        print("call")
        self.fc = nn.Linear(4, 3)
    def forward(self, x):
        print("forward")
        return self.fc(x)
def build():
    return Loud()
"""


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("nets.py:build", "{cwd}/nets.py:build"),
        ("./sub/nets.py:build", "{cwd}/sub/nets.py:build"),
        (" nets.py:build ", "{cwd}/nets.py:build"),
        ("~/nets.py:build", "{home}/nets.py:build"),
        ("/a/nets.py:build", "/a/nets.py:build"),
        ("nets.py", "nets.py"),
        ("nets.py:3", "nets.py:3"),
        ("mnist-cnn", "mnist-cnn"),
        ("conv(16,5) relu fc(3)", "conv(16,5) relu fc(3)"),
        ("runs/a", "runs/a"),
        ("~no-such-user-here/nets.py:build", "~no-such-user-here/nets.py:build"),
        ("", ""),
    ],
)
def test_resolve_name(tmp_path, text, resolved):
    assert resolve_name(text) == resolved.format(cwd=tmp_path, home=Path.home())


def test_a_resolved_name_builds_from_any_folder(tmp_path, monkeypatch):
    Path("nets.py").write_text("from torch import nn\ndef build(classes): return nn.Linear(4, classes)\n")
    name = resolve_name("nets.py:build")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert build_model(name, (4,), 3)(torch.zeros(1, 4)).shape == (1, 3)
    with pytest.raises(ModelError):
        build_model("nets.py:build", (4,), 3)


def test_names_are_resolved_without_torch():
    code = "import sys; from striate.models.from_file import resolve_name, source_digest; resolve_name('a.py:b')"
    found = subprocess.run([sys.executable, "-c", f"{code}; print('torch' in sys.modules)"], capture_output=True)
    assert found.stdout.strip() == b"False"


def test_source_digest_is_that_of_the_file():
    Path("nets.py").write_bytes(b"a = 1\r\n")
    assert source_digest("nets.py:build") == hashlib.sha256(b"a = 1\r\n").hexdigest()
    assert source_digest(resolve_name("nets.py:other")) == source_digest("nets.py:build")
    for name in ("mnist-cnn", "conv(3,3) fc(2)", "runs/a", ""):
        assert source_digest(name) is None
    with pytest.raises(ModelError):
        source_digest("gone.py:build")


def test_what_the_code_prints_goes_to_stderr(capsys):
    Path("loud.py").write_text(LOUD)
    build_model("loud.py:build", (4,), 3)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.split()[:3] == ["import", "call", "forward"]


@pytest.mark.parametrize("code", ["print('x')\n1 / 0", "print('x')\ndef build(): 1 / 0"])
def test_stdout_comes_back_where_the_code_fails(code, capsys):
    Path("nets.py").write_text(code)
    with pytest.raises(ModelError):
        build_model("nets.py:build", (4,), 3)
    print("mine")
    assert capsys.readouterr().out == "mine\n"


ABSURD = ["a" * 300 + ".py:build", "b/" * 3000 + "a.py:build", "a\0b.py:build", "~no-such-user-here/a.py:build"]


@pytest.mark.parametrize("text", ABSURD, ids=["long name", "long path", "NUL", "unknown home"])
@pytest.mark.parametrize("use", [source_digest, lambda text: build_model(text, (4,), 3)], ids=["digest", "build"])
def test_absurd_paths_are_refused(text, use):
    with pytest.raises(ModelError):
        use(text)


@pytest.mark.parametrize("text", ["a" * 300, "a/" * 3000, "a\0b", "a/\0", "~no-such-user-here/a", "a" * 300 + ".pt"])
def test_absurd_names_are_refused(text):
    with pytest.raises(ModelError):
        build_model(text, (4,), 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told_as_that():
    Path("nets.py").write_text("")
    Path("nets.py").chmod(0)
    with pytest.raises(ModelError, match="Permission denied"):
        build_model("nets.py:build", (4,), 3)


@pytest.mark.parametrize("method", ["is_file", "open"])
def test_a_path_that_the_system_refuses(monkeypatch, method):
    Path("nets.py").write_text("from torch import nn\ndef build(): return nn.Linear(4, 3)")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(ModelError) as caught:
        build_model("nets.py:build", (4,), 3)
    assert caught.value.got == "a path that cannot be read: Permission denied"


def test_a_path_below_a_zoo_name_is_a_path():
    Path("mlp").mkdir()
    Path("mlp/nets.py").write_text("from torch import nn\ndef build(): return nn.Linear(4, 3)")
    assert isinstance(build_model("mlp/nets.py:build", (4,), 3), nn.Linear)


def test_a_relative_file_is_told_with_the_line_at_fault():
    Path("nets.py").write_text("def build():\n    return 1 / 0\n")
    with pytest.raises(ModelError, match=r"line 2"):
        build_model("nets.py:build", (4,), 3)


def test_a_forgotten_function_is_answered_with_those_of_the_file_which_is_not_run():
    Path("nets.py").write_text("class A: pass\ndef _own(): pass\ndef first(): pass\ndef second(): pass\n1 / 0")
    with pytest.raises(ModelError) as caught:
        build_model("nets.py", (4,), 3)
    assert caught.value.remedy == "write nets.py:first"
    assert "the file has first, second and A" in caught.value.expected


def test_arguments_after_the_function_are_refused_as_such():
    Path("nets.py").write_text("def make(n=3): pass\n")
    with pytest.raises(ModelError) as caught:
        build_model("nets.py:make(5)", (4,), 3)
    assert caught.value.got == "`make(5)` after the colon"
    assert "without arguments" in caught.value.expected
    assert caught.value.remedy == "write nets.py:make"


def test_a_finished_network_in_a_file_is_refused_with_the_function_to_write():
    code = "from torch import nn\nnet = nn.Linear(4, 3)\n"
    Path("nets.py").write_text(code)
    with pytest.raises(ModelError, match="`net` is a network") as caught:
        build_model("nets.py:net", (4,), 3)
    assert caught.value.remedy == "add `def make(): return net` to nets.py, and write nets.py:make"
    Path("nets.py").write_text(code + "def make(): return net\n")
    assert build_model("nets.py:make", (4,), 3)(torch.zeros(1, 4)).shape == (1, 3)


def test_a_syntax_error_names_its_line_once():
    Path("nets.py").write_text("def build(:\n")
    with pytest.raises(ModelError) as caught:
        build_model("nets.py:build", (4,), 3)
    assert caught.value.got.count("line 1") == 1


def test_too_many_outputs_are_no_reason_for_another_network():
    Path("nets.py").write_text("from torch import nn\ndef build(): return nn.Linear(4, 3)")
    with pytest.raises(ModelError) as caught:
        build_model("nets.py:build", (4,), 5)
    assert caught.value.remedy == "let the network end in 5 outputs"


def test_of_what_a_function_needs_the_option_is_told():
    Path("nets.py").write_text("from torch import nn\ndef build(classes): return nn.Linear(4, classes)\n")
    with pytest.raises(ModelError) as caught:
        build_model("nets.py:build", (4,))
    assert caught.value.remedy.startswith("add --classes 10 ")
    assert build_model("nets.py:build", (4,), 10).out_features == 10
