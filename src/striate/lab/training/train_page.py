"""The page Train: the lab's own training, and all runs in the folder `runs`."""

from __future__ import annotations

import re
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body

from striate.errors import StriateError, UsageError, one_line, pasted
from striate.lab.training.training_process import Snapshots, TrainingProcess, follow
from striate.lab.training.training_request import RECIPES, TrainingRequest, read_request, sources
from striate.lab.workbench import Lab
from striate.models.registry import GROUPS
from striate.runs.directory import RunDirectory
from striate.runs.lock import owner
from striate.training.config_file import config_from_yaml

_AT_END = 0.9  # seconds that a training has to save when the lab ends
_LISTED = 100


class Trainings:
    """Starts, stops and follows trainings; safe for calls from several threads.

    `folder`: the folder of runs; `opened`: the run that the lab was opened with. Other names are refused, so no name
    leads out of the folder.
    """

    def __init__(self, folder: Path, opened: Path | None = None) -> None:
        self._folder = folder
        self._opened = opened if opened is not None and opened.is_dir() else None
        self._process: TrainingProcess | None = None
        self._lock = threading.Lock()
        self._snapshots = Snapshots()

    def names(self) -> list[dict[str, Any]]:
        """`name data model finished` of each run, the newest first."""
        found = sorted(self._runs().values(), key=_age)[:_LISTED]
        return [_listed(name, run) for run in found for name in [self._name(run)]]

    def start(self, request: TrainingRequest) -> str:
        """Start a training; the name of its run. Raises UsageError while another one runs."""
        with self._lock:
            self._refuse_second()
            run = self._new_run(request)
            self._process = TrainingProcess(request.arguments(run), run)
            return run.name

    def resume(self, name: str) -> str:
        """Resume a run that was paused or interrupted. Raises UsageError where that is impossible."""
        run = self._run(name)
        with self._lock:
            self._refuse_second()
            if RunDirectory(run).metrics_json.exists():
                raise UsageError("run", f"{name}, which is finished", "one that was interrupted", "start another one")
            if (process := owner(run)) is not None:
                raise UsageError(
                    "run", f"{name}, which {process} is training", "a run that no process trains", "wait for it"
                )
            self._process = TrainingProcess([f"--resume={run}"], run)
            return name

    def stop(self) -> str:
        """Make the training of this lab save and end; the name of its run. Raises UsageError where none runs."""
        with self._lock:
            if self._process is None or not self._process.running:
                raise UsageError("run", "no training of this lab", "one that runs", "start one")
            self._process.stop()
            return self._name(self._process.run)

    def current(self) -> str | None:
        """The name of the run that this lab trains, or trained last."""
        return None if self._process is None else self._name(self._process.run)

    def follow(self, name: str, epochs_known: int = 0) -> dict[str, Any]:
        """The current state of a run (`training_process.follow`). Raises UsageError for an unknown name."""
        process = self._process
        own = process if process is not None and name == self._name(process.run) else None
        run = self._run(name) if own is None else own.run
        return {"name": name, **follow(RunDirectory(run), own, self._snapshots, epochs_known)}

    def snapshot(self, name: str, step: int) -> dict[str, Any] | None:
        """The cached snapshot of a run nearest to this step; None where there is none."""
        return self._snapshots.at(self._run(name), step)

    def end(self) -> None:
        """Make the training save and end within a second, and print on stderr how to resume it.

        A training whose step takes longer saves after that step.
        """
        process = self._process
        if process is None or not process.running:
            return
        process.stop()
        over = process.wait(_AT_END)
        if (process.run / "config.yaml").exists():
            state = "is saved" if over else "saves after this step"
            sys.stderr.write(
                one_line(f"{process.run} {state}; resume with: striate train --resume {pasted(process.run)}") + "\n"
            )

    def _refuse_second(self) -> None:
        if self._process is not None and self._process.running:
            got = f"a second training while {self._name(self._process.run)} is trained"
            raise UsageError("train", got, "one at a time: each is given all cores", "pause or stop it first")

    def _new_run(self, request: TrainingRequest) -> Path:
        model = re.match(r"[\w.-]+", request.model or "")
        words = [request.source.key if request.source.key != "run" else Path(request.source.source).name]
        if model is not None and request.model is not None and len(request.model) <= 24:
            words.append(model.group())
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(words)).strip("-.")[:48] or "run"
        return next(path for k in range(1, 1_000_000) if not (path := self._folder / f"{name}-{k}").exists())

    def _runs(self) -> dict[str, Path]:
        runs: dict[str, Path] = {}
        with suppress(OSError):
            runs = {path.name: path for path in self._folder.iterdir() if (path / "config.yaml").is_file()}
        return runs if self._opened is None else runs | {self._name(self._opened): self._opened}

    def _name(self, run: Path) -> str:
        """The name of a run; that of the run that the lab was opened with includes its folder if it is taken."""
        other = self._opened is not None and run == self._opened and run.parent.absolute() != self._folder.absolute()
        return f"{run.absolute().name} (opened)" if other else run.absolute().name

    def _run(self, name: str) -> Path:
        if self._process is not None and name == self._name(self._process.run):
            return self._process.run
        run = self._runs().get(name)
        if run is None:
            remedy = "choose one of the list" if self._runs() else "start one"
            raise UsageError("run", repr(name[:80]), f"a run in {pasted(self._folder)}", remedy)
        return run


def _age(run: Path) -> float:
    with suppress(OSError):
        return -(run / "config.yaml").stat().st_mtime
    return 0.0


def _listed(name: str, run: Path) -> dict[str, Any]:
    try:
        config = config_from_yaml(run / "config.yaml")
        data, model = Path(config.data.source).name, config.model.name
    except StriateError:
        data, model = "", ""
    return {"name": name, "data": data, "model": model, "finished": (run / "metrics.json").exists()}


FOLDER = Path("runs")


def routes(lab: Lab) -> APIRouter:
    """The endpoints of the page Train."""
    router = APIRouter()
    trainings = Trainings(FOLDER, lab.run)
    lab.at_end(trainings.end)

    @router.get("/choices")
    def choices() -> dict[str, Any]:
        """The data and networks that can be trained, and the runs that can be watched."""
        return {
            "data": [
                {"key": one.key, "title": one.title, "input": one.input, "outputs": one.outputs}
                for one in sources(lab.run, lab.trained)
            ],
            "models": {group: [info.name for info in entries] for group, entries in GROUPS.items()},
            "recipes": RECIPES,
            "runs": trainings.names(),
            "current": trainings.current(),
        }

    @router.post("/start")
    def start(request: Annotated[dict[str, Any], Body()]) -> dict[str, str]:
        return {"run": trainings.start(read_request(request, lab))}

    @router.post("/stop")
    def stop() -> dict[str, str]:
        return {"run": trainings.stop()}

    @router.post("/resume")
    def resume(run: Annotated[str, Body(embed=True)]) -> dict[str, str]:
        return {"run": trainings.resume(run)}

    @router.get("/follow")
    def follow(run: str, known: int = 0) -> dict[str, Any]:
        return trainings.follow(run, max(0, known))

    @router.get("/look")
    def look(run: str, step: int) -> dict[str, Any]:
        return {"look": trainings.snapshot(run, step)}

    return router
