"""Every remedy that is written with its data in the source can be typed; those of findings are tried where planted
faults are diagnosed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from quick import parsed_file
from remedies_tried import try_command, try_remedy
from striate.errors import ConfigError
from striate.records import Finding, Remedy
from striate.training.config_file import field_names

SOURCE = Path(__file__).parent.parent / "src" / "striate"


def written() -> Iterator[tuple[str, dict[str, object], list[str]]]:
    """Where a Remedy is made, and what of its settings and command stands in the source."""
    texts = {file: file.read_text(encoding="utf-8") for file in sorted(SOURCE.rglob("*.py"))}
    for file, text in texts.items():
        for node in ast.walk(parsed_file(file)) if "Remedy(" in text else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Remedy":
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                settings, command = given.get("settings"), given.get("command")
                dicts = [one for one in ast.walk(settings or ast.Dict([], [])) if isinstance(one, ast.Dict)]
                pairs = [pair for one in dicts for pair in zip(one.keys, one.values, strict=True)]
                known = {key.value: value for key, value in pairs if isinstance(key, ast.Constant)}
                constant = {name: value.value for name, value in known.items() if isinstance(value, ast.Constant)}
                words = (
                    [word.value for word in command.elts if isinstance(word, ast.Constant)]
                    if isinstance(command, ast.Tuple)
                    else []
                )
                assert set(known) <= set(field_names()), f"{file.name}:{node.lineno}: {set(known)}"
                if constant or words:
                    yield f"{file.stem}:{node.lineno}", constant, words


def test_what_is_written_can_be_typed() -> None:
    found = list(written())
    assert len(found) > 40
    for place, settings, command in found:
        try:
            try_remedy(Remedy("", settings=settings, command=tuple(command)))
        except Exception as error:
            error.add_note(place)
            raise


def test_what_is_no_value_of_a_field_is_noticed() -> None:
    with pytest.raises(ConfigError):
        try_remedy(Remedy("", settings={"optim.name": "adam"}))
    with pytest.raises(ConfigError):
        try_remedy("--optim.name adam.")
    with pytest.raises(SyntaxError):
        try_remedy("write `until one step runs`")
    try_command(["lr-find", "DATA"])


def test_a_remedy_reads_as_text_and_each_surface_renders_it() -> None:
    remedy = Remedy("Give the optimizer lr=0.1.", settings={"optim.lr": 0.1}, command=("lr-find", "DATA"))
    finding = Finding("optim.lr-too-high", "error", "here", "much", "less", "It matters.", remedy)
    assert type(finding.to_json()["remedy"]) is str
    assert str(finding).endswith("It matters. Give the optimizer lr=0.1.")
    assert remedy.for_training("my photos") == "--optim.lr 0.1; or striate lr-find 'my photos'"
    assert remedy.for_page({"optim.lr": "learning rate"}, "digits") == "learning rate 0.1; or striate lr-find digits"
    assert Remedy("Print it.").for_training("digits") == "Print it."
