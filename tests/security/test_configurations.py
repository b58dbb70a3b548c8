"""Configurations from strangers: plain values only, whatever YAML could say beyond them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ALIASES = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
TEXTS = {
    "python-object": ("!!python/object/apply:os.system ['touch ran']\n", "could not determine a constructor"),
    "python-name": ("seed: !!python/name:os.system\n", "could not determine a constructor"),
    "python-module": ("seed: !!python/module:antigravity\n", "could not determine a constructor"),
    "python-new": ("seed: !!python/object/new:os.system ['touch ran']\n", "could not determine a constructor"),
    "aliases": (ALIASES, "an alias"),
    "self-alias": ("a: &a [*a]\n", "an alias"),
    "merge-without-alias": ("optim:\n  <<: {lr: 0.5}\n", "line 2\n  got:      a merge key (<<)"),
    "merge": ("a: &a {b: 1}\n<<: *a\n", "an alias"),
    "key-twice": ("seed: 1\nepochs: 1\nseed: 2\n", "line 3\n  got:      the key seed a second time"),
    "key-twice-within": ("optim:\n  lr: 0.5\n  lr: 0.1\n", "line 3\n  got:      the key lr a second time"),
    "digits": (f"seed: {'9' * 100_000}\n", "a number of too many digits"),
    "hexadecimal": (f"seed: 0x{'f' * 100_000}\n", "a number of too many digits"),
    "sexagesimal": (f"seed: 1{':59' * 30_000}\n", "a number of too many digits"),
    "sexagesimal-float": (f"seed: 1{':59' * 30_000}.5\n", "a number of too many digits"),
    "large": ("seed: 340282366920938463463374607431768211456\n", "a number of too many digits"),
    "no-date": ("seed: 2001-99-99\n", "a value that cannot be read"),
    "no-time": ("seed: 2001-01-01T99:99:99Z\n", "a value that cannot be read"),
    "nested": ("a: " + "[" * 900_000, "line 1\n  got:      nesting too deep"),
    "nested-mappings": ("{a: " * 20_000, "nesting too deep"),
    "nested-blocks": ("- " * 20_000 + "x", "nesting too deep"),
    "list-as-key": ("? [a, b]\n: 1\n", "unhashable"),
    "binary": ("seed: !!binary '@@@'\n", "seed"),
    "set": ("seed: !!set {a, b}\n", "seed"),
    "control": ("seed: \x1b[2J\n", "no YAML"),
    "long-name": ("? " + "x" * 100_000 + "\n: 1\n", "no such field"),
    "null-name": ("null: 1\n", "no such field"),
    "two-documents": ("seed: 1\n---\nseed: 2\n", "but found another document"),
    "infinite": ("seed: .inf\n", "seed"),
    "no-bool": ("seed: !!bool maybe\n", "a value that cannot be read"),
    "no-int": ("seed: !!int x\n", "a value that cannot be read"),
}


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("name", TEXTS)
def test_a_configuration_that_is_more_than_plain_values(striate, name) -> None:
    text, words = TEXTS[name]
    Path("x.yaml").write_text(text)
    told = striate("train", "mnist5k", "--config", "x.yaml", "--out", "run")
    told.refused(words)
    assert len(told.err) < 2000
    assert not Path("ran").exists()
    assert not Path("run").exists()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("value", ["[" * 5000, "{a: " * 5000, "[0x" + "f" * 9000 + "]", "[2001-99-99]", "{[a]: 1}"])
def test_a_field_on_the_command_line_that_is_more_than_plain_values(striate, value) -> None:
    told = striate("train", "mnist5k", "--set", f"data.size={value}", "--out", "run")
    told.refused("size")
    assert len(told.err) < 2000


def test_a_configuration_that_is_no_file_is_not_waited_for(striate) -> None:
    os.mkfifo("pipe.yaml")
    striate("train", "mnist5k", "--config", "pipe.yaml").refused("a pipe")
    striate("train", "mnist5k", "--config", "/dev/zero").refused("a device")
    with Path("long.yaml").open("wb") as file:
        file.truncate(1 << 40)
    striate("train", "mnist5k", "--config", "long.yaml").refused("1,099,511,627,776 bytes")
