"""WebDataset shards: uncompressed tar files in which a sample is a picture and its class, under one key.

Format: https://github.com/webdataset/webdataset. The offsets of all samples are read once, from the headers. Samples
can then be read in any order, as those of any other data.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from striate.data.listing import SPLIT_NAMES, Listing, class_numbers, order_classes
from striate.data.media.every_medium import is_sample, medium_of_files
from striate.data.sources.archive import tar_places
from striate.data.sources.shard_index import (
    CLASSES,
    DIGITS,
    INDEX,
    UNFINISHED,
    IndexedShard,
    made_anew,
    read_index,
    sample_digest,
)
from striate.data.sources.tree import Tree, as_text, check_size, read_file
from striate.data.threads import map_ordered
from striate.errors import DataError, pasted
from striate.wording import several, several_of

_RANGE = re.compile(r"\{([0-9]{1,18})\.\.([0-9]{1,18})\}")
_MOST = 100_000  # shards that a pattern may name
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")  # key and extension, as WebDataset has it
_NUMBER = re.compile(r"[0-9]{1,9}")
_LONGEST = 200  # bytes of a class
OWN_SHARD = re.compile(r"(train|val|test|data)-[0-9]{6}\.tar")
_OWN_SAMPLE = re.compile(r"[0-9]{8}\.[a-z0-9]+")


@dataclass(frozen=True)
class ShardSample:
    """A picture in a shard, and its class."""

    shard: Path
    name: str
    """Its key and extension."""
    first: int
    """The offset of its first byte in the shard."""
    size: int
    """Bytes."""
    label: str
    digest: str = ""
    """Its digest in the index; empty where there is no index."""


def names_shards(source: str) -> bool:
    """Whether a source is a pattern for shards, such as train-{000000..000009}.tar."""
    return source.lower().endswith(".tar") and _RANGE.search(source) is not None


def is_shard(tree: Tree) -> bool:
    """Whether an archive has samples of WebDataset: classes in files .cls."""
    return any(file.lower().endswith(".cls") for file in tree.files)


def holds_shards(folder: Path) -> bool:
    """Whether a folder has an index of shards, finished or not, or contains only shards and a list of classes."""
    if any(os.path.lexists(folder / name) for name in (INDEX, UNFINISHED)):
        return True
    others = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name != CLASSES]
    return bool(others) and len(shards_in(folder)) == len(others)


def shards_in(folder: Path) -> list[Path]:
    """The shards in a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == ".tar" and p.name[0] != "." and p.is_file())


def list_folder(folder: Path) -> Listing:
    """The samples of all shards in a folder, which must be those of its index. Raises DataError, also for a folder
    without an index, since writing or copying it may not have finished."""
    index, shards = read_index(folder), shards_in(folder)
    if index is None:
        raise _not_indexed(str(folder), folder)
    there = {path.name for path in shards}
    wrong = [f"{name} is missing" for name in sorted(index.keys() - there)]
    wrong += [f"{name} is not in {INDEX}" for name in sorted(there - index.keys())]
    if wrong:
        more = f", and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        expected = f"the {several(len(index), 'shard')} that {INDEX} lists"
        remedy = f"get it again; or train on one that is there: striate train {pasted(shards[0])}" if shards else ""
        remedy = made_anew(folder) if there >= index.keys() else remedy or "get them again"
        raise DataError(f"data {folder}", f"{wrong[0]}{more}", expected, remedy)
    return replace(list_shards(shards, str(folder)), name=folder.resolve().name)


def _not_indexed(source: str, folder: Path) -> DataError:
    got = f"no {INDEX} beside the shards, so it is unknown whether they are complete"
    return DataError(f"data {source}", got, "an index, which is written after the last shard", made_anew(folder))


def list_pattern(source: str) -> Listing:
    """The samples of all shards of a pattern. Raises DataError, also for a missing shard."""
    # Not resolve(), which would replace links that the user knows.
    pattern = os.path.abspath(source)  # noqa: PTH100
    paths = [Path(path) for path in _expanded(pattern)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"data {source}",
            f"{several_of(len(missing), len(paths), 'shard', 'are')} missing, the first {missing[0]}",
            "every shard that the pattern names",
            f"give the range of existing shards: ls {_RANGE.sub('*', pattern)}",
        )
    return list_shards(paths, pattern)


def list_shards(paths: Sequence[Path], source: str) -> Listing:
    """The samples of shards; names such as train-… decide their splits. Shards are compared with the index beside them;
    without an index, only shards of other programs are accepted. Raises DataError."""
    indexes = {folder: read_index(folder) for folder in {path.parent for path in paths}}
    groups = map_ordered(lambda path: _compared(path, samples_of(path), indexes[path.parent]), list(paths), chunk=1)
    found = [sample for group in groups for sample in group]
    if not found:
        raise DataError(
            f"data {source}", "no sample", "samples of a picture and a class: 0001.jpg, 0001.cls", "give other shards"
        )
    names = _class_names(paths[0].parent / CLASSES)
    labels = tuple(_named(sample, names) for sample in found)
    classes = order_classes(labels)
    return Listing(
        name=_name_of(paths),
        source=source,
        kind=medium_of_files(sample.name for sample in found).name,
        annotation="class",
        paths=tuple(f"{as_text(sample.shard.name)}/{sample.name}" for sample in found),
        labels=labels,
        given=tuple(SPLIT_NAMES.get(re.split(r"[-_.0-9]", sample.shard.name.lower())[0]) for sample in found),
        targets=class_numbers(labels, classes),
        classes=classes,
        indexed=not names and all(_NUMBER.fullmatch(label) for label in classes),
        read=_reader(found),
        notes=(f"{several(len(found), 'sample')} in {several(len(paths), 'shard')}.",),
    )


def written_by_striate(shard: Path, samples: Sequence[ShardSample]) -> bool:
    """Whether striate wrote the shard, by the names of the shard and its samples."""
    return bool(OWN_SHARD.fullmatch(shard.name)) and all(_OWN_SAMPLE.fullmatch(sample.name) for sample in samples)


def digest_samples(samples: Sequence[ShardSample]) -> str:
    """The digests of these samples for the index; reads them. Raises OSError or DataError."""
    read = _reader(samples)
    return "".join(sample_digest(sample.name, sample.label, read(i)) for i, sample in enumerate(samples))


def _compared(shard: Path, samples: list[ShardSample], index: Mapping[str, IndexedShard] | None) -> list[ShardSample]:
    """The samples with their digests from the index. Raises DataError for a shard that differs from the index."""
    if index is None:
        if written_by_striate(shard, samples):
            raise _not_indexed(str(shard), shard.parent)
        return samples
    listed = index.get(shard.name, IndexedShard(shard.name, 0, ""))
    size = shard.stat().st_size
    if (size, len(samples)) != (listed.bytes, listed.samples):
        got = f"{several(len(samples), 'sample')} in {several(size, 'byte')}"
        expected = f"{several(listed.samples, 'sample')} in {several(listed.bytes, 'byte')}, as {INDEX} says"
        raise DataError(f"shard {shard}", got, expected, f"get it again; {made_anew(shard.parent)}")
    digests = (listed.digests[start : start + DIGITS] for start in range(0, len(listed.digests), DIGITS))
    return [replace(sample, digest=digest) for sample, digest in zip(samples, digests, strict=True)]


def _expanded(pattern: str) -> list[str]:
    """All names of a pattern; numbers have as many digits as the first number of their range."""
    ranges = [(match[1], int(match[1]), int(match[2])) for match in _RANGE.finditer(pattern)]
    count = 1
    for _, first, last in ranges:
        count *= max(0, last - first + 1)
    if not 1 <= count <= _MOST:
        raise DataError(
            f"data {pattern}", several(count, "shard"), f"1 to {_MOST:,}", "give a range such as {000..009}"
        )
    texts = _RANGE.split(pattern)[::3]
    choices = [[str(k).zfill(len(text)) for k in range(first, last + 1)] for text, first, last in ranges]
    return ["".join(itertools.chain(*zip(texts, (*chosen, ""), strict=True))) for chosen in itertools.product(*choices)]


def samples_of(shard: Path) -> list[ShardSample]:
    """The samples of one shard, sorted by name, without regard to an index. Raises DataError."""
    places = tar_places(shard)
    keyed: dict[str, dict[str, str]] = {}
    for name in places:
        if match := _NAME.match(name):
            keyed.setdefault(match[1], {})[match[2].lower()] = name
    samples = []
    with shard.open("rb") as file:
        for key, parts in keyed.items():
            pictures = [parts[extension] for extension in parts if is_sample(f"sample.{extension}")]
            if not pictures and "cls" not in parts:
                continue
            if len(pictures) != 1 or "cls" not in parts:
                raise _incomplete(shard, key, parts)
            first, size = places[parts["cls"]]
            file.seek(first)
            label = file.read(min(size, _LONGEST)).decode("utf-8", "backslashreplace").strip()
            samples.append(ShardSample(shard, pictures[0], *places[pictures[0]], label))
    return sorted(samples, key=lambda sample: sample.name)


def _incomplete(shard: Path, key: str, parts: dict[str, str]) -> DataError:
    return DataError(
        f"shard {shard}, sample {key}",
        f"the files {', '.join(f'.{extension}' for extension in sorted(parts))}",
        "one picture (.jpg, .png, …) and its class (.cls)",
        f"look at it: tar tf '{shard}'; striate data pack DATA --shards DIR writes complete shards",
    )


def _class_names(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    try:
        return tuple(read_file(path).decode("utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise DataError(
            f"class names {path}", f"bytes that are not UTF-8 ({error})", "one name per line", "save it as UTF-8"
        ) from None


def _named(sample: ShardSample, names: tuple[str, ...]) -> str:
    if not names or not sample.label.isdecimal():
        return sample.label
    number = int(sample.label) if _NUMBER.fullmatch(sample.label) else len(names)
    if number >= len(names):
        raise DataError(
            f"shard {sample.shard}, {sample.name}",
            f"the class {sample.label}",
            f"0 to {len(names) - 1}: {CLASSES} beside the shards has {several(len(names), 'name')}",
            f"add its name to {sample.shard.parent / CLASSES}",
        )
    return names[number]


def _name_of(paths: Sequence[Path]) -> str:
    """The name of the data: that of the folder of several shards, or of the only shard."""
    return paths[0].resolve().parent.name if len(paths) > 1 else paths[0].stem


def _reader(samples: Sequence[ShardSample]) -> Callable[[int], bytes]:
    def read(number: int) -> bytes:
        sample = samples[number]
        check_size(sample.size, f"{sample.shard}/{sample.name}")
        with sample.shard.open("rb") as file:
            file.seek(sample.first)
            data = file.read(sample.size)
        if len(data) != sample.size:
            raise OSError("the shard is shorter than it was")
        if sample.digest not in ("", sample_digest(sample.name, sample.label, data)):
            raise OSError("damaged in the shard: its content has changed")
        return data

    return read
