"""Manifests from strangers: no path leaves the folder, no row takes more memory than it may."""

from __future__ import annotations

from pathlib import Path

import pytest

from striate.data.sources import manifest as manifest_module
from striate.errors import DataError


@pytest.fixture
def files(tmp_path) -> Path:
    (tmp_path / "secret.png").write_bytes(b"private")
    folder = tmp_path / "set"
    (folder / "sub").mkdir(parents=True)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "up").symlink_to(tmp_path)
    return folder


PATHS = {
    "../secret.png": "put the manifest into a folder above",
    "../set/link.png": "write 'link.png'",
    "sub/../../secret.png": "put the manifest into a folder above",
    "/etc/passwd": "a folder above all of its files",
    "C:\\secret.png": "the absolute path",
    "\\\\server\\share\\x.png": "the absolute path",
    "//server/share/x.png": "the absolute path",
    "~/secret.png": "which is not a file",
    "~root/x.png": "which is not a file",
    "file:///etc/passwd": "which is not a file",
    "link.png": "a link to",
    "up/secret.png": "a link to",
    "x" * 5000: "the path",
    "x/" * 5000: "the path",
    "a\0b": "the path",
    ".": "which is not a file",
    "%2e%2e/secret.png": "which is not a file",
}


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("path", PATHS, ids=[repr(path[:20]) for path in PATHS])
@pytest.mark.parametrize("row", ['"{}",cat', '"{}",cat,train'])
def test_a_path_that_leads_out_is_refused_with_its_line(striate, files, path, row) -> None:
    header = "path,label,split" if row.endswith("train") else "path,label"
    (files / "list.csv").write_text(f"{header}\n{row.format(path)}\n")
    told = striate("data", "show", files / "list.csv", "--out", "sheet.png")
    told.refused(PATHS[path], "line 2")
    assert "private" not in told.err


def test_a_path_that_goes_up_and_stays_inside_is_taken(files) -> None:
    for name in "ab":
        (files / "sub" / f"{name}.png").write_bytes(b"")
    (files / "in").symlink_to(files / "sub")
    text = "path,label\nsub/../sub/a.png,cat\nin/../sub/b.png,dog\n"
    (files / "list.csv").write_text(text)
    assert manifest_module.list_manifest(files / "list.csv", None).paths == ("sub/a.png", "sub/b.png")
    for outside in ("../set/sub/a.png", "up/../set/sub/a.png"):
        (files / "list.csv").write_text(f"{text}{outside},cat\n")
        with pytest.raises(DataError, match="line 4"):
            manifest_module.list_manifest(files / "list.csv", None)


def test_an_absolute_path_inside_gets_its_relative_form(striate, files) -> None:
    (files / "list.csv").write_text(f"path,label\n{files / 'sub' / 'a.png'},cat\n")
    striate("data", "show", files / "list.csv", "--out", "sheet.png").refused("write 'sub/a.png'")


@pytest.mark.slow
def test_a_field_of_a_gigabyte_is_not_read(measured) -> None:
    with Path("list.csv").open("wb") as file:
        file.write(b"path,label\n")
        file.truncate(1 << 30)
    (told,) = measured(("data", "show", "list.csv", "--out", "sheet.png"))
    told.refused("line 2", "at most 1,048,576 characters")
    assert told.memory < 600


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label," + ",".join(map(str, range(300_000))), "at most 1,048,576 characters"),
        ("path,label" + "," * 1_000_000, "the header"),
        ("path,label\n" + '"' + "x" * 200_000 + '",cat\n', "field larger than field limit"),
        ("path,label\n" + '"' + "x\n" * 200_000 + '",cat\n', "field larger than field limit"),
        ("path,label\n" + "x," * 500_000 + "\n", "500,001 fields"),
    ],
)
def test_absurd_rows_are_refused_in_few_words(striate, text, words) -> None:
    Path("list.csv").write_text(text)
    told = striate("data", "show", "list.csv", "--out", "sheet.png")
    told.refused(words)
    assert len(told.err) < 2000


def test_very_many_rows_are_refused(striate, monkeypatch) -> None:
    monkeypatch.setattr(manifest_module, "MAX_ROWS", 10)
    Path("x.png").write_bytes(b"")
    Path("list.csv").write_text("path,label\n" + "x.png,cat\n" * 11)
    striate("data", "show", "list.csv", "--out", "sheet.png").refused("at most 10 rows")


def test_labels_and_columns_of_escape_codes_are_shown_as_text(striate) -> None:
    Path("x.png").write_bytes(b"no picture")
    Path("list.csv").write_text('path,label,"\x1b[2J\nerror"\nx.png,\x1b]0;title\x07,\n')
    told = striate("data", "show", "list.csv", "--out", "sheet.png")
    told.refused("\\x1b]0;title\\x07")
    assert "\x1b" not in told.err
