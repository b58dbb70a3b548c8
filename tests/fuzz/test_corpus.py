"""Readers of foreign bytes: what once broke them, and mutations of whole files, give a value or a StriateError."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from targets import TARGETS, attempt  # noqa: E402

CORPUS = sorted(path for path in (HERE / "corpus").rglob("*") if path.is_file() and path.suffix != ".md")
EXAMPLES = {
    **{"weights": 40, "weights-pickle": 60, "archive": 60, "picture": 80, "mat": 40, "npz-file": 40, "mask": 60},
    **{
        "raster": 60,
        "sound": 60,
        "film": 60,
        "arrays-to-predict": 30,
        "pack-record": 60,
        "shard-journal": 20,
        "shards": 60,
    },
}


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}"[:60])
@pytest.mark.filterwarnings("ignore")
def test_what_once_broke(path) -> None:
    attempt(path.parent.name, path.read_bytes())


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with bytes changed, parts left out, doubled, put in from elsewhere or set to extreme numbers."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 2, 4, 8, 30])))
        other = draw(st.sampled_from(seeds))
        at = draw(st.integers(0, len(other)))
        piece = draw(
            st.one_of(
                st.binary(max_size=8),
                st.just(bytes(data[start:end]) * 2),
                st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"[" * 30]),
                st.just(other[at : at + 16]),
            )
        )
        data[start:end] = piece
    return bytes(data)


@pytest.mark.each_nth(8)
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.filterwarnings("ignore")
def test_mutations_of_whole_files(name) -> None:
    @settings(max_examples=EXAMPLES.get(name, 120), suppress_health_check=list(HealthCheck), database=None)
    @given(mutated(TARGETS[name][1]))
    def check(data: bytes) -> None:
        attempt(name, data)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_read(name) -> None:
    read, seeds = TARGETS[name]
    taken = 0
    for seed in seeds:
        try:
            read(seed)
            taken += 1
        except ValueError as error:
            assert "got:" in str(error)  # noqa: PT017
    assert taken, "no seed of the format is whole"
