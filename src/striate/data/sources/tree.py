"""Files under one root, on disk or in an archive, with the same interface."""

from __future__ import annotations

import gzip
import os
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import IO, NoReturn

from striate.data.listing import is_split
from striate.data.media.every_medium import medium_of_file
from striate.data.media.medium import LARGEST_FILE
from striate.errors import DataError
from striate.wording import listed, several

MAX_MEMBERS = 2_000_000
"""An archive with more files is refused; ImageNet has 1.3 million. Each takes some hundred bytes of memory."""
SMALLEST_LIMIT = 1 << 30
IN_MEMORY = 1 << 28
LARGEST_RATIO = 100


@dataclass(frozen=True)
class Tree:
    """The files of a folder or an archive. Paths are relative to its root, with `/`, and sorted."""

    where: str
    """The folder or archive, for messages."""
    name: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    hidden: tuple[str, ...]
    """Files that are skipped."""
    read: Callable[[str], bytes]
    """Returns the bytes of a file. Raises OSError or DataError."""
    notes: tuple[str, ...] = ()

    def tops(self) -> set[str]:
        """Names of the folders directly under the root."""
        return {folder for folder in self.folders if "/" not in folder}

    def loose(self) -> tuple[str, ...]:
        """Names of the files directly under the root."""
        return tuple(file for file in self.files if "/" not in file)


_PARTS = frozenset(("images", "imgs", "pictures", "jpg", "jpeg", "png"))


def set_name(path: Path) -> str:
    """The name of the data in a folder: its name, or that of the folder above if it is named for a split or for its
    files (`birds/train`, `birds/images`)."""
    whole = path.resolve()
    for folder in (whole, *whole.parents):
        if folder.name and not is_split(folder.name) and folder.name.lower() not in _PARTS:
            return whole.name if str(folder) in (os.path.expanduser("~"), "/tmp") else folder.name  # noqa: PTH111
    return whole.name


def folder_tree(path: Path) -> Tree:
    """The tree of a folder on disk; names that are not UTF-8 are escaped. Raises DataError."""
    files, folders, hidden = walk_folder(path)
    raw = {as_text(file): file for file in files}
    return without_runs(
        Tree(
            str(path),
            set_name(path),
            tuple(sorted(raw)),
            tuple(sorted(map(as_text, folders))),
            tuple(sorted(map(as_text, hidden))),
            lambda file: read_file(path / raw[file]),
        )
    )


def without_runs(tree: Tree) -> Tree:
    """The tree without run directories, which `striate train .` writes there, and without folders that contain only
    these; a note names them. The root is never such a directory."""
    found = {run for folder in tree.folders if folder.endswith("/plots") and _is_run(run := folder[:-6], tree)}
    if not found:
        return tree
    inside = {folder for folder in tree.folders if folder in found or any(above in found for above in _above(folder))}
    files = tuple(file for file in tree.files if file.rpartition("/")[0] not in inside)
    parents = {file.rpartition("/")[0] for file in files}
    occupied = parents | {folder for parent in parents for folder in _above(parent)}
    emptied = {folder for run in found for folder in _above(run)} - occupied
    runs = sorted(f"{run}/" for run in found if not any(folder in found for folder in _above(run)))
    return replace(
        tree,
        files=files,
        folders=tuple(
            folder
            for folder in tree.folders
            if not (folder in inside or folder in emptied or any(above in emptied for above in _above(folder)))
        ),
        hidden=tuple(file for file in tree.hidden if file.rpartition("/")[0] not in inside),
        notes=(*tree.notes, f"Skipped, as runs of striate: {listed(runs)}."),
    )


def _is_run(folder: str, tree: Tree) -> bool:
    """Whether a folder with plots/ is a run, a cross-validation or a sweep: by the files that these write first
    (`striate.runs.directory`)."""
    if _is_in(f"{folder}/study.yaml", tree.files):
        return True
    made = any(_is_in(f"{folder}/{name}", tree.folders) for name in ("checkpoints", "folds"))
    return made and (_is_in(f"{folder}/config.yaml", tree.files) or _is_in(f"{folder}/.lock", tree.hidden))


def _is_in(name: str, names: tuple[str, ...]) -> bool:
    """Whether a name is in a sorted tuple, by binary search."""
    place = bisect_left(names, name)
    return names[place : place + 1] == (name,)


def _above(path: str) -> Iterator[str]:
    """The folders above a path, without the root."""
    while path := path.rpartition("/")[0]:
        yield path


def walk_folder(path: Path) -> tuple[list[str], list[str], list[str]]:
    """Files, folders and hidden files under a folder: unsorted names of the system, relative to it.

    Links to folders are followed, each folder once. Raises DataError for a folder that cannot be read.
    """
    files: list[str] = []
    folders: list[str] = []
    hidden: list[str] = []
    seen: set[tuple[int, int]] = set()
    for here, subfolders, names in os.walk(path, followlinks=True, onerror=_raise):
        try:
            status = Path(here).stat()
        except OSError as error:
            _raise(error)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        prefix = "" if Path(here) == path else Path(here).relative_to(path).as_posix() + "/"
        subfolders[:] = sorted(name for name in subfolders if not is_hidden(name))
        folders += [prefix + name for name in subfolders]
        for name in names:
            (hidden if is_hidden(name) else files).append(prefix + name)
    return files, folders, hidden


def as_text(name: str) -> str:
    """A file name as valid text: bytes that are not UTF-8 become escapes such as \\xff."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _raise(error: OSError) -> NoReturn:
    raise DataError(
        f"folder {error.filename}",
        error.strerror or str(error),
        "a folder that can be read",
        f"chmod -R u+rX '{error.filename}'",
    )


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is skipped: dot files, and files that macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"


def read_file(path: Path) -> bytes:
    """The bytes of a regular file. Raises OSError where there is none, DataError where it is too large."""
    # A named pipe or device would block or never end.
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        status = None
    if status is None or not S_ISREG(status.st_mode):
        raise FileNotFoundError(f"not a regular file: {path}")
    check_size(status.st_size, str(path))
    return path.read_bytes()


def check_size(size: int, where: str) -> None:
    """Raise DataError if a file of `size` bytes is too large to be read into memory. The limit of samples, by the
    suffix of `where`, is lower, since several are read at once."""
    medium = medium_of_file(where)
    limit = LARGEST_FILE if medium is None else medium.largest_file
    if size > limit:
        raise DataError(
            where,
            f"a file of {several(size, 'byte')}",
            f"at most {limit:,} bytes a file",
            "split the file, or leave it out",
        )


def unpacked_limit(packed: int, *, in_memory: bool = False) -> int:
    """The most bytes that `packed` compressed bytes may unpack to; more is refused as a decompression bomb. The limit
    is lower for data that are unpacked into memory than for those that go to disk or are read one by one."""
    return max(min(SMALLEST_LIMIT, IN_MEMORY) if in_memory else SMALLEST_LIMIT, LARGEST_RATIO * packed)


def check_members(count: int, where: str) -> None:
    """Raise DataError if an archive has too many members."""
    if count > MAX_MEMBERS:
        raise DataError(
            where,
            f"more than {MAX_MEMBERS:,} members",
            f"at most {MAX_MEMBERS:,} files and folders in an archive",
            "unpack it yourself if you trust it, and give the folder",
        )


def too_much(where: str, limit: int, packed: int) -> DataError:
    """The error for an archive that unpacks to more than the limit."""
    return DataError(
        where,
        f"more than {limit:,} bytes from {several(packed, 'compressed byte')}",
        f"at most {limit:,} bytes, since more may be a decompression bomb",
        "unpack it yourself if you trust it, and give its content",
    )


def gunzip_into(packed: IO[bytes], size: int, out: IO[bytes], where: str) -> None:
    """Decompress gzip data of `size` bytes, with the limit checked while decompressing. Raises DataError."""
    limit, total = unpacked_limit(size), 0
    with _gunzipped(packed, where) as file:
        while block := file.read(1 << 20):
            total += len(block)
            if total > limit:
                raise too_much(where, limit, size)
            out.write(block)


@contextmanager
def _gunzipped(packed: IO[bytes], where: str) -> Iterator[gzip.GzipFile]:
    """A file that decompresses gzip data while it is read. Damaged data raise DataError."""
    try:
        with gzip.GzipFile(fileobj=packed, mode="rb") as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            where,
            f"damaged gzip data ({error})",
            "a complete .gz file",
            "get the file again: it is cut off or not gzip",
        ) from None


_HEADER = 32


def read_gz(tree: Tree, path: str, declared: Callable[[bytes], int]) -> bytes | bytearray:
    """The bytes of a file of the tree, decompressed if its name ends in .gz.

    `declared` returns, from the first bytes, how many there are in all, or raises. Only one byte more than that is
    unpacked, to notice that there are more. Raises DataError.
    """
    where = f"{tree.where}/{path}"
    data = read_required(tree, path)
    if not path.endswith(".gz"):
        return data
    limit = unpacked_limit(len(data), in_memory=True)
    with _gunzipped(BytesIO(data), where) as file:
        head = file.read(_HEADER)
        out, size = bytearray(head), declared(head)
        if size > limit:
            raise too_much(where, limit, len(data))
        while len(out) <= size and (block := file.read(min(1 << 20, size + 1 - len(out)))):
            out += block
    return out


def read_required(tree: Tree, path: str) -> bytes:
    """The bytes of a file that the data set cannot be read without. Raises DataError."""
    try:
        return tree.read(path)
    except OSError as error:
        raise DataError(
            f"{tree.where}/{path}", error.strerror or str(error), "a file that can be read", "check the file"
        ) from None


def summarize_suffixes(paths: Iterable[str]) -> str:
    """The number of files by suffix: `12 files (10 .txt, 2 .pdf)`."""
    counts = Counter(PurePosixPath(path).suffix.lower() or "without suffix" for path in paths)
    if not counts:
        return "no files"
    listed = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(5))
    return f"{counts.total()} file{'s' if counts.total() > 1 else ''} ({listed})"
