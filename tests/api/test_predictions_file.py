"""`striate predict --out FILE.parquet`: a row for each file, whenever the process is killed, and on Ray."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

import striate
from forked import in_fork
from striate.api.predicted_lines import Predicting
from striate.api.predictions_table import parts, write
from striate.api.predictions_table.parts import Parts, opened_parts
from striate.api.predictions_table.table import as_table
from striate.api.predictions_table.write import predictions_file
from striate.cli import predict as verb
from striate.cli.main import main
from striate.data.dataset import Preparation
from striate.data.normalize import Normalization
from striate.errors import RunError
from striate.tasks.classify.task import Classify
from striate.training.trained import Trained

CLASSES = ("dark", "bright")


def brightness(scale: float = 0.1) -> Trained:
    """A network that tells dark pictures from bright ones."""
    module = nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten()).eval()
    with torch.no_grad():
        module[0].weight[0], module[0].weight[1] = -scale, scale
        module[0].bias.zero_()
    normalization = Normalization((127.5,), (73.0,))
    return Trained(
        module, Classify(CLASSES), Preparation("image", (1, 8, 8)), normalization, CLASSES, torch.device("cpu")
    )


@pytest.fixture(autouse=True)
def _loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.api.predicted_lines.load", lambda *_, **__: brightness())


@pytest.fixture
def pictures() -> Path:
    """Forty pictures, dark and bright in turn; one is none."""
    folder = Path("pictures")
    folder.mkdir()
    for number in range(40):
        Image.fromarray(np.full((8, 8), 200 if number % 2 else 20, np.uint8)).save(folder / f"{number:02}.png")
    (folder / "07.png").write_bytes(b"no picture")
    return folder


def rows(file: str | Path = "found.parquet") -> list[dict]:
    return pq.read_table(file).to_pylist()


def test_a_row_for_each_file_has_what_json_prints(pictures: Path, capsys) -> None:
    assert main(["predict", "any", "pictures", "--json"]) == 1
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["predict", "any", "pictures", "--out", "found.parquet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "written: found.parquet, 40 rows" in err
    assert "1 of 40 rows could not be read" in err
    found = rows()
    assert [row["path"] for row in found] == [line["path"] for line in printed]
    for row, line in zip(found, printed, strict=True):
        assert {name: row[name] for name in ("label", "probability", "error")} == {
            name: line.get(name) for name in ("label", "probability", "error")
        }
        assert [[one["label"], one["probability"]] for one in row["top"] or ()] == line.get("top", [])
    assert not Path("found.parquet.parts").exists()


def test_called_again_only_new_files_are_predicted(pictures: Path, capsys) -> None:
    main(["predict", "any", "pictures", "--out", "found.parquet"])
    capsys.readouterr()
    assert main(["predict", "any", "pictures", "--out", "found.parquet", "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "40 rows from before; 0 files are left to predict" in err
    shutil.copy(pictures / "01.png", pictures / "new.png")
    main(["predict", "any", "pictures", "pictures/new.png", "--out", "found.parquet", "--json"])
    assert [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()] == ["pictures/new.png"]
    assert [row["path"] for row in rows()] == [*(f"pictures/{n:02}.png" for n in range(40)), "pictures/new.png"]


def test_what_was_predicted_is_kept_where_the_iteration_ends(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_LINES", 6)
    request, out = Predicting(Path("any")), Path("found.parquet")
    with predictions_file(request, [pictures], out) as found:
        for number, _ in enumerate(found):
            if number == 14:
                break
    assert not out.exists()
    with predictions_file(request, [pictures], out) as found:
        assert (found.before, len(found.predictions)) == (15, 25)
        for _ in found:
            pass
        assert (found.rows, found.unreadable) == (40, 1)
    assert sorted(row["path"] for row in rows()) == [f"pictures/{number:02}.png" for number in range(40)]


def test_after_an_interruption_the_same_command_continues(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    shown, show = [], verb._show

    def interrupt(line: dict, *given: object, **named: object) -> None:
        show(line, *given, **named)
        shown.append(line)
        if len(shown) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(verb, "_show", interrupt)
    assert main(["predict", "any", "pictures", "--out", "found.parquet"]) == 130
    assert "5 rows are saved; the same command continues" in capsys.readouterr().err
    assert main(["predict", "any", "pictures", "--out", "found.parquet"]) == 1
    assert "5 rows from before; 35 files are left to predict" in capsys.readouterr().err
    assert len(rows()) == 40


def predict_until(last: int) -> None:
    """Predictions of a process that is killed before or after the change of the disk with this number; 0: never."""
    left = [last]

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
            found = function(*given, **named)
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
            return found

        return call

    parts.write_atomic, Path.unlink, Path.mkdir = map(dying, (parts.write_atomic, Path.unlink, Path.mkdir))
    with predictions_file(Predicting(Path("any")), [Path("pictures")], Path("found.parquet")) as found:
        for _ in found:
            pass


def test_killed_at_any_point_no_row_is_lost_or_doubled(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_LINES", 20)
    for last in range(1, 100):
        ends = [in_fork(predict_until, number)[0] for number in (last, 1 + last % 7, 0)]  # killed twice, then not
        assert {*ends} <= {0, 9}
        assert ends[-1] == 0
        assert sorted(row["path"] for row in rows()) == [f"pictures/{number:02}.png" for number in range(40)], last
        assert not Path("found.parquet.parts").exists()
        Path("found.parquet").unlink()
        if ends[0] == 0:  # there are no more changes
            break
    assert last > 10


@pytest.fixture
def others() -> Iterator[list[Parts]]:
    with opened_parts(Path("found.parquet"), {}) as parts:
        yield [parts]


def test_one_process_writes_at_a_time(pictures: Path, others: list[Parts]) -> None:
    with (
        pytest.raises(RunError, match="is writing"),
        predictions_file(Predicting(Path("any")), [pictures], Path("found.parquet")),
    ):
        pass
    assert others[0].folder.exists()


def test_a_file_of_another_network_or_other_options_is_left_alone(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    main(["predict", "any", "pictures", "--out", "found.parquet"])
    before = Path("found.parquet").read_bytes()
    for options in (["--cost", "dark=3"], ["--views", "mirror"]):
        assert main(["predict", "any", "pictures", "--out", "found.parquet", *options]) == 2
        assert "--out found-new.parquet" in capsys.readouterr().err
    monkeypatch.setattr("striate.api.predicted_lines.load", lambda *_, **__: brightness(0.2))
    assert main(["predict", "any", "pictures", "--out", "found.parquet"]) == 2
    assert "another network or other options" in capsys.readouterr().err
    Path("strange.parquet").write_text("no table", encoding="utf-8")
    assert main(["predict", "any", "pictures", "--out", "strange.parquet"]) == 2
    assert "strange.parquet, which exists" in capsys.readouterr().err
    assert Path("found.parquet").read_bytes() == before
    assert not list(Path().glob("*.parts"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ray", "auto"], "--out predictions.parquet"),
        (["--ray", "auto", "--out", "found.npz"], "--out found.npz"),
        (["--out", "found.csv"], "--out found.parquet; or leave out --out"),
        (["--out", "nowhere/found.parquet"], "nowhere"),
        (["--ray", "auto", "--out", "found.parquet", "--draw", "drawn"], "leave out --ray or --draw"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
    options: list[str], said: str, pictures: Path, capsys
) -> None:
    assert main(["predict", "any", "pictures", *options]) == 2
    assert said in capsys.readouterr().err
    assert [file.name for file in Path().iterdir()] == ["pictures"]


def test_without_pyarrow_the_extra_is_named(pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["predict", "any", "pictures", "--out", "found.parquet"]) == 2
    assert "pip install 'striate[parquet]'" in capsys.readouterr().err


def test_lines_of_any_task_share_a_table() -> None:
    parts = [
        [{"path": "a", "boxes": []}, {"path": "b", "error": "no picture"}],
        [{"path": "c", "boxes": [{"label": "cell", "box": [1.5, 2.0, 3.0, 4.0], "score": 0.5}], "width": 3}],
        [{"path": "d", "details": {}, "targets": {"age": 3}}, {"path": "e", "targets": {"age": 2.5, "sex": "f"}}],
        [{"path": "f", "value": 1}, {"path": "g", "values": [1.0, 2.0], "label": None}],
        [{"path": "h", "label": "cell", "top": [["cell", 0.75], ["dust", 0.25]], "start": 0.5}],
    ]
    with opened_parts(Path("all.parquet"), {"network": "one"}) as opened:
        for lines in parts:
            opened.add(lines)
        opened.join()
    found = {
        row.pop("path"): {name: value for name, value in row.items() if value is not None}
        for row in rows("all.parquet")
    }
    assert found["a"] == {"boxes": []}
    assert found["b"] == {"error": "no picture"}
    assert found["c"] == {"boxes": [{"label": "cell", "box": [1.5, 2.0, 3.0, 4.0], "score": 0.5}], "width": 3}
    assert found["d"] == {"targets": {"age": 3.0, "sex": None}}
    assert found["e"] == {"targets": {"age": 2.5, "sex": "f"}}
    assert found["f"] == {"value": 1}
    assert found["g"] == {"values": [1.0, 2.0]}
    assert found["h"]["top"] == [{"label": "cell", "probability": 0.75}, {"label": "dust", "probability": 0.25}]
    assert as_table(parts[0]).num_rows == 2


@pytest.fixture
def run() -> Path:
    """A run on disk: processes of a cluster load it."""
    return striate.train("digits", epochs=1, out="run").path


@pytest.mark.slow
def test_on_ray_the_rows_are_those_of_one_process(run: Path, pictures: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    command = [sys.executable, "-m", "striate", "predict", "run", "pictures", "digits#3"]
    subprocess.run([*command, "--out", "here.parquet"], check=False)
    asked = [*command, "--out", "there.parquet", "--ray"]
    for address in ("127.0.0.1:1", "nonsense"):
        wrong = subprocess.run([*asked, address], check=False, capture_output=True, text=True)
        assert wrong.returncode == 2, wrong.stderr
        assert "expected: the address of a cluster: HOST:PORT" in wrong.stderr
    assert not list(Path().glob("there*"))
    done = subprocess.run([*asked, "auto"], check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-2:] == ["written: there.parquet, 41 rows", "1 of 41 rows could not be read"]
    here, there = (sorted(rows(name), key=lambda row: row["path"]) for name in ("here.parquet", "there.parquet"))
    assert [(row["path"], row["label"]) for row in here] == [(row["path"], row["label"]) for row in there]
    assert [row["probability"] for row in here] == pytest.approx([row["probability"] for row in there], abs=1e-5)
