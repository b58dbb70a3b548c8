"""Names in archives, taken apart as pathlib does; what is hidden or a folder follows from them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from striate.data.config import DataConfig
from striate.data.sources.archive import archive_tree, tar_places
from striate.data.sources.list_source import list_source
from striate.errors import DataError

PARTS = st.sampled_from(["a", "b", "cat.png", ".", "", ".hidden", "__MACOSX", "é", "a.b", "…"])
NAMES = st.lists(PARTS, min_size=1, max_size=5).map("/".join).filter(lambda name: not name.startswith("/"))


def hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


@pytest.mark.parametrize(
    ("name", "form", "remedy"),
    [
        *[("a.zip", "tar.gz", "rename it to a.tar.gz"), ("a.tgz", "zip", "rename it to a.zip")],
        *[("a.tar", "tar.gz", "rename it to a.tar.gz"), ("a.tar.gz", "tar", "rename it to a.tar")],
        *[("a b.tar.xz", "tar.xz", "mkdir 'a b' && tar -xf"), ("a.zip", "tar.bz2", "mkdir a && tar -xf")],
        *[("a.rar", "zip", "unpack it"), ("a.npy", "zip", "numpy.savez('a.npz', x=numpy.load(")],
    ],
)
def test_formats_that_are_not_read_and_wrong_suffixes_are_named(
    tmp_path: Path, name: str, form: str, remedy: str
) -> None:
    path = tmp_path / name
    if form == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("a/1.png", b"")
    else:
        with tarfile.open(path, f"w:{form[4:]}") as archive:  # type: ignore[call-overload]
            archive.addfile(tarfile.TarInfo("a/1.png"))
    with pytest.raises(DataError) as caught:
        list_source(DataConfig(str(path)))
    assert remedy in caught.value.remedy


@given(st.lists(NAMES, min_size=1, max_size=8, unique_by=lambda name: str(PurePosixPath(name))), st.lists(NAMES))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_folders_and_what_is_hidden(files: list[str], folders: list[str]) -> None:
    path = Path("x.tar")
    with tarfile.open(path, "w") as archive:
        for kind, names in ((tarfile.REGTYPE, files), (tarfile.DIRTYPE, folders)):
            for name in names:
                info = tarfile.TarInfo(name)
                info.type = kind
                archive.addfile(info, io.BytesIO())
    tree = archive_tree(path)
    named = [PurePosixPath(name) for name in files]
    within = {parent for name in named for parent in name.parents} | {PurePosixPath(name) for name in folders}
    assert set(tree.files) == {"" if name == PurePosixPath() else str(name) for name in named if not hidden(name)}
    assert set(tree.hidden) == {str(name) for name in named if hidden(name)}
    assert set(tree.folders) == {str(name) for name in within if not hidden(name) and name != PurePosixPath()}
    assert [list(tree.files), list(tree.folders), list(tree.hidden)] == [
        sorted(names) for names in (tree.files, tree.folders, tree.hidden)
    ]


@given(st.integers(0, 147) | st.integers(156, 511), st.integers(1, 255))  # between them lies the checksum
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_header_in_the_middle_ends_nothing_silently(place: int, change: int) -> None:
    """tarfile alone would take it for the end of the archive."""
    path = Path("x.tar")
    with tarfile.open(path, "w") as archive:
        for number in range(3):
            info = tarfile.TarInfo(f"{'p' * 70}/{number}.png")
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    raw = bytearray(path.read_bytes())
    raw[1024 + place] ^= change
    path.write_bytes(raw)
    with pytest.raises(DataError, match="damaged"):
        archive_tree(path)


@pytest.mark.parametrize("name", ["a//b.png", "./a/b.png", "a/./b.png", "a\\b.png"])
def test_other_spellings_of_a_name_are_the_same_name(name: str) -> None:
    with tarfile.open("x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    assert archive_tree(Path("x.tar")).files == ("a/b.png",)
    with tarfile.open("x.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("a/b.png"))
    with pytest.raises(DataError, match="occurs twice"):
        archive_tree(Path("x.tar"))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(st.text("ab/é. \\", min_size=1, max_size=250), st.binary(max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_names_and_sizes_are_those_that_tarfile_reads(style: int, name: str, content: bytes) -> None:
    path = Path("x.tar")
    with tarfile.open(path, "w", format=style) as archive:
        info = tarfile.TarInfo(f"x{name}")
        info.size = len(content)
        try:
            archive.addfile(info, io.BytesIO(content))
        except ValueError:  # a name that is too long for this format
            return
    with tarfile.open(path) as archive:
        (plain,) = archive.getmembers()
    offset, size = plain.offset_data, plain.size
    if ".." in plain.name.replace("\\", "/").split("/"):
        with pytest.raises(DataError, match="leads outside"):
            tar_places(path)
        return
    assert tar_places(path) == {str(PurePosixPath(plain.name.replace("\\", "/"))): (offset, size)}
