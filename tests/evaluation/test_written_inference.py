"""How the figures of a run were computed belongs to the run: whoever computes them again gets the same bits, however
long that seems to take."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from striate.api import evaluate, predict_files, resume, train_config
from striate.evaluation.written_inference import written_inference
from striate.inference import choose
from striate.inference import predictor as planning
from striate.inference.plan import PLAIN
from striate.runs.directory import RunDirectory
from striate.training.config import Config
from striate.training.request import merge_request


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose predictions are not computed plainly: every backend seems faster than the one before."""
    out = tmp_path_factory.mktemp("trained") / "run"
    fields = {"model.name": "conv(4,3) relu pool(2) fc(10)", "execution.memory_format": "channels_last"}
    config = merge_request(Config(), data="digits", epochs=1, fields=fields | {"data.val_fraction": 0.3})
    rates = iter(range(1, 1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRIATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(planning, "LEAST_SECONDS", 0.0)
        patch.setattr(choose, "_SEARCH_SHARE", 1e9)
        patch.setattr(choose, "_rates", lambda *_: (float(next(rates)) * 2, 1.0, 1.0))
        train_config(config, out=out, console=Console(stderr=True), quiet=True)
    return out


@pytest.fixture
def run(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, where nothing is worth a search any more, and nothing is cached."""
    monkeypatch.setattr(planning, "LEAST_SECONDS", 1e9)
    shutil.copytree(finished, "run")
    return Path("run")


def figures(run: Path) -> dict[str, object]:
    metrics = json.loads((run / "metrics.json").read_text())
    return {name: metrics[name] for name in ("train", "val", "test")} | {"backend": metrics["inference"]["backend"]}


def test_it_is_written_down_and_computed_so_again(run: Path) -> None:
    before = figures(run)
    written = written_inference(RunDirectory(run))
    assert written is not None
    assert written.backend != PLAIN
    measured = evaluate(run)
    assert (measured.inference.backend, measured.metrics) == (written.backend, before["test"])
    assert measured.inference.line().startswith(f"predictions computed in {written.backend.name}: ")
    assert predict_files(run, ["digits#3"]).plan.backend == written.backend
    assert evaluate(run, plan="plain").inference.backend == PLAIN
    (run / "metrics.json").unlink()  # killed before its end
    assert resume(run, quiet=True).metrics["inference"]["cached"]
    assert figures(run) == before


def test_of_a_run_of_the_version_before_its_metrics_tell(run: Path) -> None:
    lines = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "events.jsonl").write_text("".join(line for line in lines if '"event": "inference"' not in line))
    measured = evaluate(run)
    assert measured.metrics == figures(run)["test"]
    assert measured.inference.backend != PLAIN


@pytest.mark.parametrize("said", [None, 3, {}, {"backend": {"engine": "rm -rf"}}, {"tried": [{"backend": 1}]}])
def test_what_a_stranger_writes_there_is_not_followed(run: Path, said: object) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"inference": said}))
    (run / "events.jsonl").write_text(json.dumps({"event": "inference", "plan": said}) + "\n")
    found = written_inference(RunDirectory(run))
    assert found is None or found.backend == PLAIN


def test_what_cannot_be_prepared_here_is_chosen_anew(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ImportError("openvino")

    monkeypatch.setattr(planning, "prepare_backend", missing)
    monkeypatch.setattr(choose, "_rates", lambda *_: (1.0, 1.0, 1.0))  # nothing is faster
    assert evaluate(run).inference.backend == PLAIN
