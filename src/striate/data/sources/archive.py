"""Archives (.tar .tar.gz .tgz .zip), read in place: their members are never written to disk under their names."""

from __future__ import annotations

import os
import stat
import tarfile
import tempfile
import threading
import weakref
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from striate.data.sources.tree import (
    Tree,
    as_text,
    check_members,
    check_size,
    gunzip_into,
    is_hidden,
    too_much,
    unpacked_limit,
    without_runs,
)
from striate.errors import DataError, pasted
from striate.wording import several

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
_UNREAD = (".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar")
_MARKS = {
    ".zip": (0, b"PK\3\4"),
    ".tar.gz": (0, b"\x1f\x8b"),
    ".tar.bz2": (0, b"BZh"),
    ".tar.xz": (0, b"\xfd7zXZ"),
    ".tar": (257, b"ustar"),
}
"""Where a file of each format has which bytes."""
_HEAD = 262
MAX_FOLDER_NAMES = 1 << 26
"""Limit of the characters in the paths of all folders: one name of a megabyte can contain half a million folders."""


def is_archive(path: Path) -> bool:
    """Whether the file has the name of an archive."""
    return path.name.lower().endswith(SUFFIXES)


def archive_tree(path: Path) -> Tree:
    """The tree of an archive, from its root.

    Raises DataError for a damaged archive, a member that is a link or a device or lies outside, and a decompression
    bomb.
    """
    with _explained(path):
        _check_suffix(path)
        return _zip_tree(path) if path.name.lower().endswith(".zip") else _tar_tree(path)


def unread_archive(path: Path) -> DataError | None:
    """The error for an archive of a format that is not read; None for the name of another file."""
    suffix = next((one for one in _UNREAD if path.name.lower().endswith(one)), None)
    return None if suffix is None else _to_unpack(path, suffix, path.name[: -len(suffix)])


def _to_unpack(path: Path, suffix: str, stem: str) -> DataError:
    folder = pasted(stem)
    unpack = f"mkdir {folder} && tar -xf {pasted(path)} -C {folder} && striate train {folder}"
    return DataError(
        f"archive {path}",
        f"the format {suffix}, which striate does not read",
        "an archive .tar, .tar.gz, .tgz or .zip, or a folder",
        unpack if suffix.startswith(".t") else "unpack it, and give the folder",
    )


def _check_suffix(path: Path) -> None:
    """Raise DataError if the first bytes are those of an archive with another suffix."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    actual = next((suffix for suffix, (place, mark) in _MARKS.items() if head.startswith(mark, place)), None)
    named = next(suffix for suffix in SUFFIXES[::-1] if path.name.lower().endswith(suffix))
    if actual is None or actual == (".tar.gz" if named == ".tgz" else named):
        return
    if actual in _UNREAD:
        raise _to_unpack(path, actual, _stem(path))
    raise DataError(
        f"archive {path}",
        f"the content of a {actual} file in a file named {named}",
        "a suffix that fits the content",
        f"rename it to {pasted(_stem(path) + actual)}",
    )


def _stem(path: Path) -> str:
    return path.name[: -len(next(end for end in reversed(SUFFIXES) if path.name.lower().endswith(end)))]


def tar_places(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and size in bytes of each file of an uncompressed tar file. Raises DataError as `archive_tree` does."""
    with _explained(path), path.open("rb") as file:
        return _tar_members(path, file)[0]


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"archive {path}",
            error.strerror or str(error),
            f"a file that can be read, and room for its content in {tempfile.gettempdir()}",
            "check the permissions, or set TMPDIR to a folder with more space",
        ) from None
    except Exception as error:  # damaged archives raise anything: zipfile.BadZipFile, struct.error, lzma.LZMAError, …
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"archive {path}", f"damaged, or not an archive ({error})", "a complete archive", "download or make it again"
    )


def _tar_tree(path: Path) -> Tree:
    with ExitStack() as opened:
        file = _plain_tar(path, opened)
        places, folders = _tar_members(path, file)
        opened.pop_all()
    lock = threading.Lock()

    def read(name: str) -> bytes:
        offset, size = places[name]
        check_size(size, f"{path}/{name}")
        if hasattr(os, "pread"):  # leaves the position in the file, which threads and forked processes share
            return os.pread(file.fileno(), size, offset)
        with lock:
            file.seek(offset)
            return file.read(size)

    # The archive is closed when the last reader of its listing is garbage collected.
    weakref.finalize(read, file.close)
    return _tree(path, places, folders, read)


def _plain_tar(path: Path, opened: ExitStack) -> IO[bytes]:
    """The tar file, decompressed once into an unnamed temporary file, so that members can be read in any order."""
    if path.name.lower().endswith(".tar"):
        return opened.enter_context(path.open("rb"))
    file = opened.enter_context(tempfile.TemporaryFile(prefix="striate-"))  # noqa: SIM115
    with path.open("rb") as packed:
        gunzip_into(packed, path.stat().st_size, file, f"archive {path}")
    file.seek(0)
    return file


def _tar_members(path: Path, file: IO[bytes]) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Offset and size of every file by name, and the names of folders."""
    places: dict[str, tuple[int, int]] = {}
    folders: list[str] = []
    last = -1
    with tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as archive:
        while (member := archive.next()) is not None:
            cast(Any, archive).members.clear()  # tarfile keeps them, a kilobyte each
            check_members(len(places) + len(folders), f"archive {path}")
            # A negative size would lead back, in an endless loop.
            if member.size < 0 or member.offset <= last:
                raise tarfile.ReadError(f"the size {member.size}")
            last = member.offset
            name = _safe_name(member.name, path)
            if member.isdir():
                folders.append(name)
            elif member.isreg() and not member.issparse():
                _add(places, name, (member.offset_data, member.size), path)
            else:
                kind = "a link" if member.islnk() or member.issym() else "a device or another special file"
                raise _refused(path, member.name, kind)
        file.seek(cast(Any, archive).offset)
        end_mark = file.read(tarfile.BLOCKSIZE)
        if any(end_mark):  # tarfile takes any invalid header for the end, as it does zeros
            raise tarfile.ReadError(f"no header after {several(len(places), 'file')}")
        if len(end_mark) < tarfile.BLOCKSIZE:  # an archive that is cut off between two files would look complete
            raise EOFError(f"it ends after {several(len(places), 'file')}, without the mark of its end")
    end = file.seek(0, 2)
    for name, (offset, size) in places.items():
        if offset + size > end:
            raise EOFError(f"it ends within {name}")
    return places, folders


_LONGEST_HEADER = 1 << 20
_WITH_CONTENT = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class _Member(tarfile.TarInfo):
    """A header that parses only name and size of a plain file, and leaves all others to tarfile. Long names and lists
    of attributes of a megabyte are refused, since tarfile copies them many times."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _WITH_CONTENT and self.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {several(self.size, 'byte')}")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        if len(buf) == tarfile.BLOCKSIZE and buf[156:157] == tarfile.REGTYPE:
            fields = ((0, 100), (124, 136), (148, 156), (345, 500))
            name, size, checksum, prefix = (bytes(buf[start:end]).partition(b"\0")[0] for start, end in fields)
            with suppress(ValueError):  # numbers in another notation, which tarfile parses
                member = cls()
                member.type, member.size = tarfile.REGTYPE, int(size, 8)
                member.name = (prefix + b"/" * bool(prefix) + name).decode(encoding, errors)
                if sum(buf) - sum(buf[148:156]) + 8 * ord(" ") == int(checksum, 8):
                    return member
        return super().frombuf(buf, encoding, errors)


def _zip_tree(path: Path) -> Tree:
    archive = zipfile.ZipFile(path)
    check_members(len(archive.infolist()), f"archive {path}")
    places: dict[str, zipfile.ZipInfo] = {}
    folders: list[str] = []
    for member in archive.infolist():
        name = _safe_name(member.filename, path)
        mode = member.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(path, member.filename, "a link or another special file")
        if member.flag_bits & 1:
            raise _refused(path, member.filename, "encrypted")
        if member.is_dir():
            folders.append(name)
        else:
            _add(places, name, member, path)
    packed = path.stat().st_size
    if sum(member.file_size for member in places.values()) > unpacked_limit(packed):
        raise too_much(f"archive {path}", unpacked_limit(packed), packed)
    lock, opened = threading.Lock(), {os.getpid(): archive}

    def read(name: str) -> bytes:
        member = places[name]
        check_size(member.file_size, f"{path}/{name}")
        try:
            # Never more than declared: the size in the header may be wrong.
            with lock, _own(opened, path).open(member) as file:
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    unpacker: Any = file
                    unpacker._decompressor = _LimitedDecompressor(unpacker._decompressor, member.file_size)
                data = file.read(member.file_size + 1)
        except Exception as error:  # every decompressor has errors of its own
            raise OSError(f"damaged in the archive ({error or type(error).__name__})") from None
        if len(data) != member.file_size:
            raise OSError("damaged in the archive (not of the size it declares)")
        return data

    return _tree(path, places, folders, read)


def _own(opened: dict[int, zipfile.ZipFile], path: Path) -> zipfile.ZipFile:
    """The archive as this process opened it: forked processes would share the position in the file."""
    found = opened.get(os.getpid())
    if found is None:
        found = opened[os.getpid()] = zipfile.ZipFile(path)
    return found


class _LimitedDecompressor:
    """A decompressor of bzip2 or LZMA with a limit. These can make gigabytes of a few bytes in one call, so they get a
    few bytes at a time, until there are more than `size`."""

    def __init__(self, inner: Any, size: int) -> None:
        self.inner, self.left = inner, size

    @property
    def eof(self) -> bool:
        return bool(self.inner.eof)

    def decompress(self, data: bytes) -> bytes:
        out = bytearray()
        for start in range(0, len(data), 64):
            if not self.inner.eof:
                out += self.inner.decompress(data[start : start + 64])
            if len(out) > self.left:
                raise OSError("not of the size it declares")
        self.left -= len(out)
        return bytes(out)


def _safe_name(name: str, path: Path) -> str:
    # Splits names as PurePosixPath does, in a tenth of the time.
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if name.startswith(("/", "\\")) or (parts and ":" in parts[0][:2]):
        raise _refused(path, name, "an absolute path")
    if ".." in parts:
        raise _refused(path, name, "a path that leads outside the archive")
    if "\0" in name:
        raise _refused(path, name, "a name with a zero byte")
    return as_text("/".join(parts))


def _refused(path: Path, member: str, what: str) -> DataError:
    return DataError(
        f"archive {path}, member {member!r}",
        what,
        "plain files and folders inside the archive, each named once",
        "make the archive again without it, or unpack it yourself and give the folder",
    )


def _add(places: dict[str, Any], name: str, place: Any, path: Path) -> None:
    if name in places:
        raise _refused(path, name, "a name that occurs twice")
    places[name] = place


def _tree(path: Path, places: Iterable[str], folders: Iterable[str], read: Callable[[str], bytes]) -> Tree:
    files = sorted(places)
    parents = _parents(files, path) | set(folders)
    shown = {folder: not any(map(is_hidden, folder.split("/"))) for folder in parents | {""}}

    def visible(name: str) -> bool:
        folder, _, last = name.rpartition("/")
        return shown[folder] and not is_hidden(last)

    return without_runs(
        Tree(
            str(path),
            _stem(path),
            tuple(file for file in files if visible(file)),
            tuple(sorted(folder for folder in parents if folder and shown[folder])),
            tuple(file for file in files if not visible(file)),
            read,
        )
    )


def _parents(files: Iterable[str], path: Path) -> set[str]:
    """All folders above files, at any depth."""
    found: set[str] = set()
    characters = 0
    for file in files:
        folder = file.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            characters += len(folder)
            if characters > MAX_FOLDER_NAMES:
                raise _too_deep(path)
            folder = folder.rpartition("/")[0]
    return found


def _too_deep(path: Path) -> DataError:
    return DataError(
        f"archive {path}",
        f"nested folders whose paths have more than {MAX_FOLDER_NAMES:,} characters in total",
        "folders that are not nested so deeply",
        "unpack it yourself if you trust it, and give the folder",
    )
