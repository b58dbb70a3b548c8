"""The pages of the lab, in the order of its navigation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """One page: `/NAME` shows `static/NAME.js` with `static/NAME.css`, which asks `/api/NAME/…`.

    `routes` is the Python module of these answers; its function `routes(lab)` gives them as an APIRouter.
    `purpose` says in a sentence what the page is for.
    """

    name: str
    title: str
    purpose: str
    routes: str


PAGES = (
    Page(
        "build",
        "Build",
        "Type a network, or pick one; it draws itself, with what it costs and sees, and what is wrong with it.",
        "striate.lab.building",
    ),
    Page(
        "watch",
        "Watch",
        "A network at work on an image: every layer's maps, and how each number in them comes about.",
        "striate.lab.watch",
    ),
    Page(
        "pixels",
        "Pixels",
        "An image as what it is: numbers, channel by channel, down to the pixel.",
        "striate.lab.pixels",
    ),
    Page(
        "play",
        "Play",
        "Lay a kernel on a map, window by window, and classic kernels on a picture of your own.",
        "striate.lab.playing",
    ),
    Page(
        "train",
        "Train",
        "Start a training and watch it: curves, filters and layers as they change, what the doctor finds.",
        "striate.lab.training.routes",
    ),
    Page(
        "explore",
        "Explore",
        "The data of the run, and what its network makes of them: images, mistakes, confusions, a map.",
        "striate.lab.exploring.routes",
    ),
)
