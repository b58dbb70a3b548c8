"""The answers of `/api/explore/…`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query
from fastapi.responses import Response

from striate.lab.exploring.answers import Answers, find_answers
from striate.lab.exploring.choosing import Choice, Ranked, Show, chosen_ids, confusion, describe, drawn, find_ranked
from striate.lab.exploring.mapping import Features, features_of, make_map
from striate.lab.exploring.samples import Samples, read_samples
from striate.lab.workbench import Lab
from striate.visualize.inside.embedding import Method

PER_PAGE = 60

Kept = TypeVar("Kept")


class Explorer:
    """What was read and computed for one lab, once for all pages."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._kept: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()
        self._making: dict[tuple[str, ...], threading.Lock] = {}

    @property
    def samples(self) -> Samples:
        """All samples of the run."""
        return self._once(("samples",), lambda: read_samples(self._lab))

    def answers(self, split: str) -> Answers:
        """What the network answers for a split."""
        return self._once(("answers", split), lambda: find_answers(self._lab, self.samples, split))

    def known_answers(self, split: str) -> Answers | None:
        """The answers that were computed already or that the run keeps; None elsewhere."""
        kept = self.samples.classes and (self.samples.run.predictions / f"{split}.npz").is_file()
        return self.answers(split) if kept or ("answers", split) in self._kept else None

    def ranked(self, split: str) -> Ranked:
        """The samples of a split in the order of their metric."""
        return self._once(("ranked", split), lambda: find_ranked(self._lab, self.samples, split))

    def ranks(self, split: str) -> bool:
        """Whether the run keeps what the order of a split without classes needs."""
        samples = self.samples
        return not samples.classes and (samples.run.predictions / f"{split}.npz").is_file()

    def features(self, split: str) -> Features:
        """What the map of a split is made from."""
        return self._once(("features", split), lambda: features_of(self._lab, self.samples, split))

    def map(self, split: str, method: Method) -> dict[str, Any]:
        """The map of a split."""
        return self._once(("map", split, method), lambda: make_map(self.features(split), method))

    def _once(self, key: tuple[str, ...], make: Callable[[], Kept]) -> Kept:
        with self._lock:
            mine = self._making.setdefault(key, threading.Lock())
        with mine:  # others may be read or computed meanwhile
            if key not in self._kept:
                self._kept[key] = make()
            value: Kept = self._kept[key]
            return value


def routes(lab: Lab) -> APIRouter:
    """The endpoints of the page Explore."""
    router, explorer = APIRouter(), Explorer(lab)

    @router.get("/about")
    def about() -> dict[str, Any]:
        """The splits of the run with the number of samples of each class."""
        samples = explorer.samples
        return {
            "data": samples.listing.name,
            "classes": samples.classes,
            "draws": lab.trained is not None and lab.trained.task.draws,
            "splits": [
                {"name": name, "n": n, "classes": samples.class_counts(name), "ranked": explorer.ranks(name)}
                for name, n in samples.counts().items()
            ],
        }

    @router.get("/samples")
    def chosen(
        split: str,
        true: int | None = None,
        said: int | None = None,
        show: Show = "all",
        start: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int, Query(ge=1, le=PER_PAGE)] = PER_PAGE,
    ) -> dict[str, Any]:
        """A page of the samples that were asked for."""
        choice, samples = Choice(split, true, said, show), explorer.samples
        answers = explorer.answers(split) if choice.needs_answers else explorer.known_answers(split)
        ranked = explorer.ranked(split) if choice.ranks or explorer.ranks(split) else None
        if ranked is not None and choice.ranks:
            ids = ranked.ordered(best=show == "best")
        else:
            ids = chosen_ids(choice, samples, answers)
        figures = None if ranked is None else ranked.words()
        told = describe(ids[start : start + count], samples, answers, figures)
        return {"total": len(ids), "start": start, "samples": told}

    @router.get("/drawn")
    def over(split: str, sample: int, truth: bool = False) -> Response:
        """A sample with what was predicted, or what is true, drawn over it."""
        picture = drawn(lab, explorer.samples, explorer.ranked(split), sample, truth=truth)
        return Response(picture, media_type="image/png")

    @router.get("/confusion")
    def confused(split: str) -> dict[str, Any]:
        return confusion(explorer.samples, explorer.answers(split))

    @router.get("/map")
    def mapped(split: str, method: Method = "pca") -> dict[str, Any]:
        """The map with its samples, in the order of its points."""
        made, features, samples = explorer.map(split, method), explorer.features(split), explorer.samples
        return made | {"samples": describe(features.ids, samples, features.answers)}

    @router.get("/sheet")
    def sheet(split: str) -> Response:
        return Response(explorer.features(split).sheet, media_type="image/png")

    return router
