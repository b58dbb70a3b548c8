"""Lines are appended whole or not at all, and readers never see half of one."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.errors import RunError
from striate.runs.checkpoint import recover_run
from striate.runs.directory import RunDirectory
from striate.runs.events import append_event, cut_incomplete_line, read_events, read_notes
from striate.runs.files import append_text, complete_lines


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def test_what_is_torn_is_no_line(run: RunDirectory) -> None:
    append_event(run, "note", text="one")
    append_event(run, "note", text="two\u2028still two")  # a line end elsewhere, none in JSON
    whole = run.events.read_bytes()
    for cut in range(1, len(whole)):
        run.events.write_bytes(whole[:cut])
        lines = complete_lines(run.events)
        assert lines == whole[:cut].decode(errors="replace").split("\n")[: whole[:cut].count(b"\n")]
        assert len(read_notes(run)) == len(lines)


@given(torn=st.binary(min_size=1, max_size=30).filter(lambda b: b"\n" not in b))
def test_a_run_that_goes_on_cuts_the_torn_line_off(tmp_path_factory, torn: bytes) -> None:
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    (run.path / "checkpoints").mkdir()
    append_event(run, "note", text="one")
    with run.events.open("ab") as file:
        file.write(torn)
    recover_run(run, lambda _: None)
    append_event(run, "resumed")
    events = read_events(run)
    assert [event["event"] for event in events] == ["note", "torn-line", "resumed"]
    assert events[1]["bytes"] == len(torn)
    assert cut_incomplete_line(run) == 0


def test_a_damaged_line_is_named_with_a_command_that_takes_it_out(run: RunDirectory) -> None:
    append_event(run, "note", text="one")
    append_text(run.events, "\0\0\0\n")
    append_event(run, "note", text="two")
    with pytest.raises(RunError, match="line 2") as caught:
        read_notes(run)
    assert os.system(caught.value.remedy) == 0
    assert read_notes(run) == ("one", "two")


def test_readers_beside_a_writer_see_whole_lines_only(run: RunDirectory) -> None:
    written = threading.Thread(target=lambda: [append_event(run, "note", text="x" * k) for k in range(200)])
    written.start()
    seen = 0
    while seen < 200:
        seen = len([json.loads(line) for line in complete_lines(run.events)])
    written.join()


@pytest.mark.parametrize("accepted", [0, 7])
@pytest.mark.parametrize(
    ("number", "told", "remedy"),
    [(errno.ENOSPC, "No space left", "free some space"), (errno.EIO, "Input/output error", "dmesg")],
)
def test_a_disk_that_takes_no_more_leaves_no_half_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accepted: int, number: int, told: str, remedy: str
) -> None:
    file, write = tmp_path / "metrics.csv", os.write
    append_text(file, "epoch,loss\n")

    def failing(descriptor: int, content: memoryview) -> int:
        if len(content) == 11 and accepted:
            return write(descriptor, content[:accepted])
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing)
        with pytest.raises(RunError, match=told) as caught:
            append_text(file, "1,0.123456\n")
    assert remedy in caught.value.remedy
    assert file.read_text() == "epoch,loss\n"
    append_text(file, "1,0.123456\n")
    assert file.read_text() == "epoch,loss\n1,0.123456\n"


def test_a_line_of_which_the_system_takes_a_part_is_written_whole(tmp_path: Path, monkeypatch) -> None:
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:3]))
        append_text(tmp_path / "metrics.csv", "epoch,loss\n")
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss\n"
