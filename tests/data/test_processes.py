"""Forked processes read what threads would: the same data, order and errors, also where one of them dies."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data import processes, threads
from striate.data.config import DataConfig
from striate.data.dataset import Dataset, Split
from striate.data.loader import batches
from striate.data.processes import may_fork, shared_empty
from striate.data.read import load_dataset
from striate.data.store import stream
from striate.data.store.stored import StoredInputs
from striate.data.threads import map_ordered
from striate.errors import DataError
from striate.machine import second_process


@pytest.fixture
def forking(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the program, on a machine of three cores, however little there is to do."""
    monkeypatch.setattr(second_process, "_ALLOWED", [True])
    monkeypatch.setattr(processes, "own_cores", lambda: (0, 1, 2))
    for module in (threads, stream):
        monkeypatch.setattr(module, "WORTH", 0.0)
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same 120 pictures in a folder, a tar file and a zip file; one of them is damaged."""
    numbers, root = np.random.default_rng(0), tmp_path_factory.mktemp("pictures")
    for k in range(120):
        file = root / "two" / ("light" if k % 2 else "dark") / f"{k:03}.{'png' if k % 3 else 'jpg'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.integers(100 * (k % 2), 156 + 100 * (k % 2) - 1, (12, 9, 3), np.uint8)).save(file)
    (root / "two/dark/060.jpg").write_bytes((root / "two/dark/060.jpg").read_bytes()[:200])
    with tarfile.open(root / "two.tar.gz", "w:gz") as packed:
        packed.add(root / "two", "two")
    with zipfile.ZipFile(root / "two.zip", "w") as archive:
        for file in sorted((root / "two").rglob("*.*g")):
            archive.write(file, file.relative_to(root), zipfile.ZIP_DEFLATED)
    return {"folder": root / "two", "tar": root / "two.tar.gz", "zip": root / "two.zip"}


@pytest.mark.each_nth(2)
@pytest.mark.usefixtures("forking")
@pytest.mark.parametrize("form", ["folder", "tar", "zip"])
def test_what_processes_read_is_what_threads_read(
    form: str, sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[int] = []
    really = processes.ProcessPoolExecutor

    def counted(*given: object) -> object:
        began.append(1)
        return really(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(processes, "ProcessPoolExecutor", counted)
    config = DataConfig(source=str(sources[form]), size=(8, 8))
    forked = load_dataset(config)
    assert len(began) == 2  # to look at the files, and to decode them
    monkeypatch.setattr(second_process, "_ALLOWED", [])
    threaded = load_dataset(config)
    assert forked.fingerprint == threaded.fingerprint
    assert forked.findings == threaded.findings
    assert any("060" in str(finding) for finding in forked.findings)
    for name, split in threaded.splits.items():
        assert np.array_equal(forked.splits[name].inputs[:], split.inputs[:])
        assert np.array_equal(forked.splits[name].targets, split.targets)


def read_as_stream(source: Path, folder: Path) -> Dataset:
    shutil.copytree(source, folder)
    return load_dataset(DataConfig(source=str(folder), size=(8, 8), store="stream"))


def read_by(split: Split) -> set[str]:
    """Where the images of a split are decoded."""
    assert isinstance(split.inputs, StoredInputs)
    assert isinstance(split.inputs.source, stream.Stream)
    return {type(split.inputs.source.decoder).__name__}


@pytest.mark.usefixtures("forking")
def test_a_stream_that_processes_decode_is_that_of_threads(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked = read_as_stream(sources["folder"], tmp_path / "two")
    monkeypatch.setattr(second_process, "_ALLOWED", [])
    threaded = load_dataset(DataConfig(source=str(tmp_path / "two"), size=(8, 8), store="stream"))
    assert forked.findings == threaded.findings
    assert any("060" in str(finding) for finding in forked.findings)
    for name, split in threaded.splits.items():
        assert read_by(split) == {"InThreads"}
        assert read_by(forked.splits[name]) == {"InProcesses"}
        assert np.array_equal(forked.splits[name].inputs.source.known_sums, split.inputs.source.known_sums)
        for _ in range(2):  # places in memory are used again
            given = list(batches(forked.splits[name], 17, order=torch.randperm(len(split))))
            for batch in given:
                rows = [split.ids.tolist().index(number) for number in batch.ids.tolist()]
                assert np.array_equal(batch.inputs, split.inputs[np.array(rows)])


@pytest.mark.usefixtures("forking")
def test_a_stream_goes_on_here_when_its_processes_are_gone_and_names_a_file_that_is_gone(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    train = read_as_stream(sources["folder"], tmp_path / "two").splits["train"]
    first = train.inputs[:].clone()
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
    assert torch.equal(train.inputs[:], first)
    shutil.rmtree(tmp_path / "two/dark")
    with pytest.raises(DataError, match="dark"):
        train.inputs[:]


@pytest.mark.usefixtures("forking")
def test_results_come_in_order_and_what_is_written_is_shared() -> None:
    written = shared_empty((1000, 2), "int64")

    def work(k: int) -> tuple[int, int]:
        written[k] = k, os.getpid()
        return k, os.getpid()

    found = list(map_ordered(work, range(1000), separate=1000))
    assert [k for k, _ in found] == list(range(1000))
    assert written.tolist() == [list(one) for one in found]
    assert os.getpid() in {process for _, process in found}  # the first few
    assert len({process for _, process in found}) > 1


@pytest.mark.usefixtures("forking")
def test_what_fails_there_is_raised_here_as_itself() -> None:
    def work(k: int) -> int:
        if k == 500:
            raise DataError("file 500", "gone", "a picture", "put it back")
        return k

    with pytest.raises(DataError, match="file 500"):
        list(map_ordered(work, range(1000), separate=1000))


@pytest.mark.usefixtures("forking")
def test_the_work_of_a_process_that_dies_is_done_here() -> None:
    here = os.getpid()

    def work(k: int) -> int:
        if k == 500 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return k

    assert list(map_ordered(work, range(1000), separate=1000)) == list(range(1000))


def test_nothing_forks_in_a_notebook_or_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "own_cores", lambda: (0, 1, 2, 3))
    monkeypatch.setattr(second_process, "_ALLOWED", [])
    assert not may_fork()
    monkeypatch.setattr(second_process, "_ALLOWED", [True])
    assert may_fork()
    with ThreadPoolExecutor(1) as server:
        assert not server.submit(may_fork).result()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not may_fork()
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr(processes, "own_cores", lambda: (0,))
    assert not may_fork()


def test_an_archive_is_read_where_the_system_has_no_reading_at_a_place(
    sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DataConfig(source=str(sources["tar"]), size=(8, 8))
    expected = load_dataset(config).fingerprint
    monkeypatch.delattr(os, "pread")
    assert load_dataset(config).fingerprint == expected
