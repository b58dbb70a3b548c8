"""The lab's trainings: what may be asked for, and what the command line is given; following, pausing, going on."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab.training_stand_in import PROGRAM, a_config

from striate.errors import LayerStringError, ModelError, UsageError
from striate.lab.training import training_process
from striate.lab.training.train_page import Trainings
from striate.lab.training.training_process import Snapshots
from striate.lab.training.training_request import TrainingRequest, read_request, sources
from striate.lab.workbench import Lab
from striate.runs.directory import RunDirectory
from striate.runs.watching import is_watched, write_snapshot

NETWORK = "conv(4,3) relu pool(2) fc(10)"


@pytest.fixture
def here(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a stand-in trains."""
    monkeypatch.setattr(training_process, "COMMAND", (sys.executable, str(PROGRAM)))
    (own_folder / "config.yaml").write_text(a_config())
    return own_folder


@pytest.fixture
def trainings(here: Path) -> Iterator[Trainings]:
    made = Trainings(Path("runs"))
    yield made
    made.end()


def request(**asked: Any) -> TrainingRequest:
    return read_request({"data": "digits", "model": NETWORK} | asked, Lab())


def wait_for(trainings: Trainings, name: str, until: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    for _ in range(2000):
        known = trainings.follow(name)
        if until(known):
            return known
        time.sleep(0.01)
    raise AssertionError(known)


def test_a_wish_is_a_command() -> None:
    asked = request(epochs="3", recipe="quick", lr=0.01)
    assert asked.arguments(Path("runs/x")) == [
        "digits",
        f"--model={NETWORK}",
        "--epochs=3",
        "--recipe=quick",
        "--lr=0.01",
        "--out=runs/x",
    ]
    assert request(model="", minutes=0.5).arguments(Path("o")) == ["digits", "--minutes=0.5", "--out=o"]


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"data": "/etc"}, "data"),
        ({"data": "../photos"}, "data"),
        ({"data": "run"}, "data"),
        ({"data": "--config=x"}, "data"),
        ({"data": ["digits"]}, "data"),
        ({"model": "m" * 20_001}, "model"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"epochs": "many"}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"minutes": float("inf")}, "minutes"),
        ({"epochs": 1, "minutes": 1}, "budget"),
        ({"recipe": "fine-tune"}, "recipe"),
        ({"lr": -1}, "learning rate"),
        ({"lr": {}}, "learning rate"),
    ],
)
def test_what_may_not_be_asked_for_is_told(asked: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError) as told:
        request(**asked)
    assert told.value.where == where


@pytest.mark.parametrize(
    ("model", "remedy"), [("conv(16,5) rleu", 'write "conv(16,5) relu"'), ("resnat18", 'write "resnet18"')]
)
def test_a_network_that_is_none_is_told_before_anything_is_started(model: str, remedy: str) -> None:
    with pytest.raises(LayerStringError) as told:
        request(model=model)
    assert told.value.remedy == remedy


@pytest.mark.parametrize("model", ["net.py:make", "./runs/a", "/tmp/last.pt", "../net.py"])
def test_a_page_names_no_files_as_a_network(model: str) -> None:
    with pytest.raises(ModelError):
        request(model=model)


def test_the_data_of_the_run_may_be_named(here: Path) -> None:
    run = here / "somewhere"
    run.mkdir()
    (run / "config.yaml").write_text(a_config().replace("digits", "photos/here"))
    assert sources(run)[0].source == "photos/here"
    assert read_request({"data": "run"}, Lab(run)).source.source == "photos/here"
    assert all(one.key != "run" for one in sources(None))


def test_start_follow_pause_go_on_and_end(
    trainings: Trainings, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_SECONDS", "0.03")  # it is not over before it is looked at, on a busy machine too
    name = trainings.start(request())
    assert name == "digits-1"
    begun = wait_for(trainings, name, lambda known: known["epochs_done"] >= 2)
    assert (begun["state"], begun["own"], begun["steps"], begun["notes"]) == ("training", True, 400, ["decided"])
    assert begun["rows"][0]["train_loss"] == 1.0
    assert is_watched(RunDirectory(here / "runs" / name))
    assert trainings.follow(name, begun["epochs_done"])["epochs_done"] >= begun["epochs_done"]
    with pytest.raises(UsageError, match="one at a time"):
        trainings.start(request())
    assert trainings.stop() == name
    paused = wait_for(trainings, name, lambda known: known["state"] != "stopping")
    assert paused["state"] == "paused"
    assert paused["saved_step"] == int((here / "runs" / name / "step").read_text()) >= paused["rows"][-1]["step"]
    with pytest.raises(UsageError, match="no training"):
        trainings.stop()
    assert trainings.resume(name) == name
    on = wait_for(trainings, name, lambda known: known["epochs_done"] > paused["epochs_done"])
    assert on["state"] == "training"
    assert on["said"][-1].startswith("step ")
    trainings.end()
    assert capsys.readouterr().err == "runs/digits-1 is saved; resume with: striate train --resume runs/digits-1\n"
    assert trainings.follow(name)["state"] == "paused"
    assert [one["name"] for one in trainings.names()] == [name]


def test_a_finished_run_and_one_that_cannot_be(trainings: Trainings, here: Path) -> None:
    name = trainings.start(request(model="fc(3)"))
    failed = wait_for(trainings, name, lambda known: known["refusal"])
    assert (failed["state"], failed["refusal"]["where"]) == ("failed", "head")
    (here / "runs").mkdir(exist_ok=True)
    done = here / "runs" / "done"
    done.mkdir()
    shutil.copy(here / "config.yaml", done)
    (done / "metrics.json").write_text(json.dumps({"test": {"n": 5, "accuracy": 0.8}}))
    known = trainings.follow("done")
    assert (known["state"], known["own"], known["result"]["test"]["n"]) == ("finished", False, 5)
    with pytest.raises(UsageError, match="is finished"):
        trainings.resume("done")


@pytest.mark.parametrize(
    ("columns", "metric"),
    [
        ("train_loss,val_loss,train_accuracy,val_accuracy", ("accuracy", "accuracy", True)),
        ("train_loss,val_loss,train_map,val_map", ("map", "mAP", True)),
        ("train_loss,train_return,val_return", ("return", "return", False)),
        ("train_loss,val_loss", None),
    ],
)
def test_the_metric_of_the_task_is_followed(
    trainings: Trainings, here: Path, columns: str, metric: tuple[str, str, bool] | None
) -> None:
    run = here / "runs" / "one"
    run.mkdir(parents=True)
    shutil.copy(here / "config.yaml", run)
    (run / "metrics.csv").write_text(f"epoch,step,lr,{columns}\n1,10,0.1{',0.5' * (columns.count(',') + 1)}\n")
    found = trainings.follow("one")["metric"]
    assert (found and (found["key"], found["name"], found["is_share"])) == metric


def test_a_run_that_ended_before_its_first_checkpoint_has_saved_nothing(trainings: Trainings, here: Path) -> None:
    (here / "runs" / "lost").mkdir(parents=True)
    shutil.copy(here / "config.yaml", here / "runs" / "lost")
    assert trainings.follow("lost")["state"] == "stopped"


@pytest.mark.parametrize("name", ["..", "../runs", "/etc", "", "nothing", "a/../done", "\0"])
def test_no_name_leads_out_of_the_folder(trainings: Trainings, here: Path, name: str) -> None:
    (here / "runs").mkdir()
    with pytest.raises(UsageError):
        trainings.follow(name)
    with pytest.raises(UsageError):
        trainings.resume(name)
    with pytest.raises(UsageError):
        trainings.snapshot(name, 1)


def test_snapshots_are_cached_thinned_and_started_again(tmp_path: Path) -> None:
    snapshots = Snapshots()
    for step in range(1, 500):
        snapshots.add(tmp_path, {"step": step, "filters": None})
    steps = snapshots.steps(tmp_path)
    assert (steps[0], steps[-1]) == (1, 499)
    assert 20 < len(steps) <= 60
    assert (snapshots.at(tmp_path, 1) or {})["step"] == 1
    snapshots.add(tmp_path, {"step": 7})
    assert snapshots.steps(tmp_path) == [7]
    snapshots.add(tmp_path, {"step": 9, "filters_step": 8, "layers_step": 3})
    snapshots.add(tmp_path, {"step": 10, "filters_step": 8, "layers_step": 10})
    assert snapshots.steps(tmp_path) == [7, 8]
    assert (snapshots.at(tmp_path, 8) or {})["layers_step"] == 10
    assert snapshots.at(tmp_path / "other", 3) is None


def test_the_endpoints(open_lab: Callable[..., Any], here: Path) -> None:
    client = open_lab()
    choices = client.get("/api/train/choices").json()
    assert {"digits", "mnist5k"} <= {one["key"] for one in choices["data"]}
    assert choices["runs"] == []
    refused = client.post("/api/train/start", json={"data": "/etc"})
    assert (refused.status_code, refused.json()["error"]["where"]) == (422, "data")
    assert client.post("/api/train/start", json=["digits"]).status_code == 422
    name = client.post("/api/train/start", json={"data": "digits", "model": NETWORK}).json()["run"]
    known: dict[str, Any] = {}
    while not known.get("rows"):
        known = client.get("/api/train/follow", params={"run": name}).json()
    assert client.post("/api/train/stop").json() == {"run": name}
    while known["state"] not in ("paused", "stopped", "finished"):  # until then it may write looks of its own
        known = client.get("/api/train/follow", params={"run": name}).json()
    write_snapshot(RunDirectory(here / "runs" / name), {"step": 10**6, "steps": 400, "filters": None, "layers": None})
    assert client.get("/api/train/follow", params={"run": name}).json()["looks"][-1] == 10**6
    assert client.get("/api/train/look", params={"run": name, "step": 10**6 + 4}).json()["look"]["step"] == 10**6
    assert client.get("/api/train/follow", params={"run": "../x"}).status_code == 422
