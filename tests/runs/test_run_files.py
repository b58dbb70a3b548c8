"""Nobody ever sees half a file; a run is never overwritten; a checkpoint executes nothing."""

from __future__ import annotations

import json
import pickle
import shlex
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from striate.errors import RunError
from striate.runs.checkpoint import load_checkpoint, save_checkpoint
from striate.runs.directory import append_row, create_run, open_run
from striate.runs.files import write_atomic, write_json, write_text


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")

    def half(temporary: BinaryIO) -> None:
        temporary.write(b"ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left") as caught:
        write_atomic(file, half)
    assert "free some space" in caught.value.remedy
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_json_is_strict(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": (1, "ä")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [None, 1.5], "c": [1, "ä"]}


def test_runs_are_numbered_and_names_are_safe(tmp_path: Path) -> None:
    assert [create_run(None, "a/b c:d").path.name for _ in range(3)] == ["a-b-c-d-1", "a-b-c-d-2", "a-b-c-d-3"]
    assert create_run(None, "..").path == Path("runs/run-1")


@pytest.mark.parametrize(("content", "held"), [("config.yaml", "a run"), ("notes.txt", "other files")])
def test_a_folder_that_holds_something_is_refused(tmp_path: Path, content: str, held: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert create_run(out, "x").path == out  # an empty one is taken
    other = tmp_path / "other"
    other.mkdir()
    (other / content).write_text("")
    with pytest.raises(RunError, match=held):
        create_run(other, "x")


def test_a_remedy_is_one_word_for_a_shell_and_goes_on_with_what_is_there(tmp_path: Path) -> None:
    taken = tmp_path / "my runs"
    taken.mkdir()
    for file, verb in (("config.yaml", "train"), ("study.yaml", "sweep")):
        (taken / file).write_text("x")
        with pytest.raises(RunError) as caught:
            create_run(taken, "x")
        words = shlex.split(caught.value.remedy)
        assert words[words.index("--out") + 1] == f"{taken}-2,"
        assert words[-4:] == ["striate", verb, "--resume", str(taken)]
    (tmp_path / "my runs-2").mkdir()
    with pytest.raises(RunError) as caught:
        create_run(taken, "x")
    assert f"{taken}-3" in shlex.split(caught.value.remedy.partition(",")[0])


def test_a_sweep_is_no_run_but_has_one(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("x")
    with pytest.raises(RunError, match="a sweep") as caught:
        open_run(tmp_path)
    assert caught.value.remedy == f"striate sweep --resume {tmp_path}"
    best = create_run(tmp_path / "best", "best")
    best.config.write_text("x")
    with pytest.raises(RunError, match="a sweep") as caught:
        open_run(tmp_path)
    assert open_run(Path(caught.value.remedy.removeprefix("give that run: "))) == best


def test_of_many_runs_those_of_a_similar_name_are_listed_and_the_rest_counted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("birds", *(f"r{number}" for number in range(7))):
        create_run(Path("runs") / name, "x").config.write_text("")
    with pytest.raises(RunError) as caught:
        open_run(Path("brids"))
    assert caught.value.remedy.startswith("one of: runs/birds, ")
    assert caught.value.remedy.endswith(" and 3 more")


def test_a_run_is_found_by_its_folder_or_a_checkpoint_in_it(tmp_path: Path) -> None:
    run = create_run(tmp_path / "r", "x")
    with pytest.raises(RunError, match=r"without config\.yaml"):
        open_run(run.path)
    run.best.write_bytes(b"")
    with pytest.raises(RunError, match="which contains a network") as caught:
        open_run(run.path)
    assert f"striate predict {run.best} PATH" in caught.value.remedy
    run.config.write_text("")
    run.last.write_bytes(b"")
    assert open_run(run.path) == open_run(run.last) == run


def test_an_export_is_no_run_and_the_run_around_it_is_named(tmp_path: Path) -> None:
    run = create_run(tmp_path / "r", "x")
    (run.path / "exports/folder").mkdir(parents=True)
    inside, outside = run.path / "exports" / "net.onnx", tmp_path / "net.pt2"
    for file in (inside, outside, run.path / "exports/folder/model.safetensors"):
        file.write_bytes(b"")
    run.config.write_text("")
    for path, said in (
        (inside, "a file with"),
        (outside, "a file with"),
        (run.path / "exports/folder", "a folder with"),
    ):
        with pytest.raises(
            RunError, match=f"{said} only a network, without the data, splits and calibration"
        ) as caught:
            open_run(path)
        other = "give the run directory that it was made from"
        assert caught.value.remedy == (other if path == outside else f"give its run: {run.path}")


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    content = {"model": {"w": torch.arange(3.0)}, "history": [{"a": 1.5}], "best_score": [0.5, -1.0], "tally": None}
    save_checkpoint(tmp_path / "a.pt", content)
    loaded = load_checkpoint(tmp_path / "a.pt")
    assert loaded["model"]["w"].tolist() == [0, 1, 2]
    assert {k: v for k, v in loaded.items() if k != "model"} == {
        "format": 1,
        **{k: v for k, v in content.items() if k != "model"},
    }


class Bomb:
    """What a hostile checkpoint would hold."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("kind", ["bomb", "raw pickle bomb", "text", "empty", "cut", "other", "folder", "none"])
def test_what_is_no_checkpoint_of_ours_is_refused_and_not_executed(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "a.pt"
    if kind == "bomb":
        torch.save({"format": 1, "model": Bomb()}, file)
    elif kind == "raw pickle bomb":
        file.write_bytes(pickle.dumps(Bomb()))
    elif kind == "text":
        file.write_text("hello")
    elif kind == "empty":
        file.touch()
    elif kind == "cut":
        save_checkpoint(file, {"model": {"w": torch.zeros(1000)}})
        file.write_bytes(file.read_bytes()[:900])
    elif kind == "other":
        torch.save({"state_dict": {}}, file)
    elif kind == "folder":
        file.mkdir()
    with pytest.raises(RunError):
        load_checkpoint(file)
    assert not Path("exploded").exists()


def test_a_row_with_other_columns_keeps_each_number_in_its_own(tmp_path: Path) -> None:
    path, rows = tmp_path / "metrics.csv", list[dict[str, float]]()

    def append(row: dict[str, float]) -> None:
        rows.append(row)
        append_row(path, row, lambda: rows)

    append({"epoch": 1, "age": 0.5, "loss": 2.0})
    append({"epoch": 2, "loss": 1.0})
    assert path.read_text() == "epoch,age,loss\n1,0.5,2.0\n2,,1.0\n"
    append({"epoch": 3, "loss": 0.5, "skipped": 1})
    assert path.read_text() == "epoch,age,loss,skipped\n1,0.5,2.0,\n2,,1.0,\n3,,0.5,1\n"


def test_a_relative_path_without_a_run_is_told_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=f"no such folder, seen from {tmp_path}"):
        open_run(Path("runs/first"))
    with pytest.raises(RunError, match="no such folder\n"):
        open_run(tmp_path / "runs" / "first")
