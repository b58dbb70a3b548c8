"""The answers of `/api/train/…`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body

from striate.lab.training.trainings import Trainings
from striate.lab.training.wish import RECIPES, read_wish, sources
from striate.lab.workbench import Lab
from striate.models.registry import GROUPS

FOLDER = Path("runs")


def routes(lab: Lab) -> APIRouter:
    """The endpoints of the page Train."""
    router = APIRouter()
    trainings = Trainings(FOLDER, lab.run)
    lab.at_end(trainings.end)

    @router.get("/choices")
    def choices() -> dict[str, Any]:
        """What may be trained, and which runs can be watched."""
        return {
            "data": [{"key": one.key, "title": one.title} for one in sources(lab.run)],
            "models": {group: [info.name for info in entries] for group, entries in GROUPS.items()},
            "recipes": RECIPES,
            "runs": trainings.names(),
            "current": trainings.current(),
        }

    @router.post("/start")
    def start(wish: Annotated[dict[str, Any], Body()]) -> dict[str, str]:
        return {"run": trainings.start(read_wish(wish, lab))}

    @router.post("/stop")
    def stop() -> dict[str, str]:
        return {"run": trainings.stop()}

    @router.post("/resume")
    def resume(run: Annotated[str, Body(embed=True)]) -> dict[str, str]:
        return {"run": trainings.go_on(run)}

    @router.get("/follow")
    def follow(run: str, known: int = 0) -> dict[str, Any]:
        return trainings.follow(run, max(0, known))

    @router.get("/look")
    def look(run: str, step: int) -> dict[str, Any]:
        return {"look": trainings.look(run, step)}

    return router
