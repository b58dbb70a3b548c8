"""Captions in a manifest: path,caption[,split][,group], a row for each caption; an image may have several rows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from striate.data.annotations.captions import BETWEEN, MOST_WORDS, with_captions, words_of
from striate.data.listing import Listing
from striate.data.media.every_medium import medium_of_files
from striate.data.sources.manifest import TableRow, at_line, placed_rows, table_columns, table_rows
from striate.data.sources.other_layouts import table_beside
from striate.data.sources.source_names import check_names
from striate.data.sources.tree import Tree, check_size, read_file
from striate.errors import DataError
from striate.records import Finding, Remedy
from striate.wording import listed, several

_KNOWN = ("path", "caption", "split", "group")


def holds_captions(path: Path, called: Mapping[str, str], *, requested: bool) -> bool:
    """Whether the header of the table has the columns path and caption, and none of labels unless captions are
    `requested`."""
    columns = table_columns(path, called).keys()
    return {"path", "caption"} <= columns and (requested or not {"label", "labels"} & columns)


def caption_table(tree: Tree, *, requested: bool) -> Path | None:
    """The table beside the images that has captions (`table_beside`)."""
    return table_beside(tree, lambda table: holds_captions(table, {}, requested=requested), requested=requested)


def list_captions(path: Path, called: Mapping[str, str]) -> Listing:
    """The images of the table with their captions; paths are relative to its folder and stay inside it. A caption
    without a word is left out, and with it an image that has no other. Raises DataError with the line."""
    root = Path(os.path.realpath(path.parent))
    captions: dict[str, list[str]] = {}
    placed: dict[str, TableRow] = {}
    columns, empty = table_columns(path, called), []
    check_size(path.stat().st_size, f"manifest {path}")
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        rows = table_rows(path, file)
        check_names(called, [field.strip().lower() for field in next(rows)[1]], _KNOWN)
        for row, fields in placed_rows(path, rows, columns, "caption"):
            placed[row.path] = row
            own = captions.setdefault(row.path, [])
            for text in fields["caption"].split(BETWEEN):
                count = len(words_of(text))
                if count > MOST_WORDS:
                    raise at_line(
                        path, row.line, f"a caption of {count:,} words", f"at most {MOST_WORDS}", "shorten it"
                    )
                if count:
                    own.append(text)
                else:
                    empty.append(row.path)
    names = sorted(name for name, own in captions.items() if own)
    if not names:
        raise DataError(
            f"manifest {path}",
            "no caption with a word",
            "one caption per row",
            "write sentences into the column caption",
        )
    others = [name for name in columns if name not in _KNOWN]
    groups = tuple(placed[name].group for name in names)
    listing = Listing(
        name=path.stem,
        source=str(path),
        kind=medium_of_files(names).name,
        annotation="class",
        paths=tuple(names),
        labels=(),
        given=tuple(placed[name].split for name in names),
        targets=None,
        read=lambda number: read_file(root / names[number]),
        notes=(f"Ignored columns of the manifest: {listed(others, 8)}.",) if others else (),
        groups=groups if any(groups) else (),
        findings=_empty(path, empty, len(captions) - len(names)),
    )
    return with_captions(listing, [captions[name] for name in names])


def _empty(path: Path, names: list[str], bare: int) -> tuple[Finding, ...]:
    if not names:
        return ()
    without = (
        f"; {several(bare, 'image has', 'images have')} no other caption and {'is' if bare == 1 else 'are'} left out"
    )
    return (
        Finding(
            code="data.empty-captions",
            severity="warning",
            where=str(path),
            measured=f"{several(len(names), 'caption')} without a word: {listed(sorted(set(names)), 3)}"
            + (without if bare else ""),
            threshold="0 captions",
            why="An empty caption does not describe its image, so training leaves it out.",
            remedy=Remedy("Write the captions, or leave these rows out.", advice="fill in the column caption"),
        ),
    )
