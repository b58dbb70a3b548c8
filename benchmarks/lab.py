"""Seconds from asking the lab to its whole answer, for each thing that a page asks while somebody works with it.

Command: python benchmarks/lab.py [--repeats 20] [--clients 20] [--run RUN]
Starts `striate lab` on a free port and asks it over HTTP, as a browser does, with resnet18 (11.7 million parameters)
and a picture of 224×224 pixels. Each repeat asks for something that was not asked before (another number of outputs,
another place, another kernel), so that nothing is answered from what is kept. One client goes first, then `--clients`
at the same time do everything once, each in its own order; errors are counted. Median and worst of both are printed and
written to benchmarks/results/lab.json (lab_run.json with `--run`). Drawing in the browser is not in it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

MODEL = "resnet18"
LIMIT = 0.3
"""Seconds that an interaction may take, with one client."""


@dataclass(frozen=True)
class Interaction:
    """One thing that a page asks: a path below /api/, and the arguments of httpx in turn `k`, about the image of that
    name: `params`, and `json` or `content` where something is sent."""

    name: str
    path: str
    arguments: Callable[[int, str], dict[str, Any]]


def _built(k: int, _image: str) -> dict[str, Any]:
    return {"json": {"model": MODEL, "input": "3x224x224", "outputs": 1000 - k}}


def _mistaken(k: int, _image: str) -> dict[str, Any]:
    return {"json": {"model": f"conv({k + 8},3) rel pool(2) fc(10)", "input": "3x224x224"}}


def _samples(k: int, _image: str) -> dict[str, Any]:
    return {"params": {"data": "mnist5k", "start": 24 * k}}


def _upload(k: int, _image: str) -> dict[str, Any]:
    return {"params": {"title": str(k)}, "content": photograph(k + 1000)}


def _region(k: int, image: str) -> dict[str, Any]:
    return {"params": {"image": image, "x": k % 190, "y": k % 180, "width": 28, "height": 28}}


def _channel(k: int, image: str) -> dict[str, Any]:
    return {"params": {"image": image, "name": ("red", "green", "blue")[k % 3], "side": 224}}


def _windows(k: int, _image: str) -> dict[str, Any]:
    return {"params": {"size": 9 + k % 8, "kernel": 3 + k % 5, "padding": k % 3, "stride": 1 + k % 2}}


def _filtered(k: int, image: str) -> dict[str, Any]:
    return {"params": {"image": image, "kernel": f"1 2 1; 2 {k + 1} 2; 1 2 1 /16"}}


def _one_pixel(k: int, image: str) -> dict[str, Any]:
    return {"params": {"image": image, "kernel": "gaussian5", "x": k % 224, "y": 3 * k % 224}}


def _watched(k: int, _image: str) -> dict[str, Any]:
    return {"params": {"model": MODEL, "image": f"mnist5k#{k}"}}


def _maps(k: int, image: str) -> dict[str, Any]:
    return {"params": {"model": MODEL, "image": image, "layer": k % 60}}


def _map(k: int, image: str) -> dict[str, Any]:
    return {"params": {"model": MODEL, "image": image, "layer": k % 60, "map": k % 64}}


def _number(k: int, image: str) -> dict[str, Any]:
    place = {"layer": 21, "map": k % 128, "row": k % 28, "column": 3 * k % 28}
    return {"params": {"model": MODEL, "image": image, **place}}


INTERACTIONS = (
    Interaction("Build: a network after a change", "build/network", _built),
    Interaction("Build: a mistake with its fix", "build/network", _mistaken),
    Interaction("Image: a page of samples", "images/samples", _samples),
    Interaction("Image: an upload", "images/upload", _upload),
    Interaction("Pixels: 28 × 28 numbers", "pixels/region", _region),
    Interaction("Pixels: a channel", "pixels/channel", _channel),
    Interaction("Play: windows", "play/windows", _windows),
    Interaction("Play: a kernel on a picture", "play/filtered", _filtered),
    Interaction("Play: one pixel's arithmetic", "play/filter", _one_pixel),
    Interaction("Watch: another image, all layers", "watch/steps", _watched),
    Interaction("Watch: the maps of a layer", "watch/maps", _maps),
    Interaction("Watch: one map", "watch/picture", _map),
    Interaction("Watch: one number's arithmetic", "watch/unit", _number),
)


def _page_of_mistakes(k: int, _image: str) -> dict[str, Any]:
    return {"params": {"split": "test", "show": "mistakes", "start": k}}


def _cell(k: int, _image: str) -> dict[str, Any]:
    return {"params": {"split": "test", "true": k % 10, "said": k // 10 % 10}}


def _thumbnail(k: int, _image: str) -> dict[str, Any]:
    return {"params": {"name": f"run#{37 * k}", "side": 192}}


def _test_split(_k: int, _image: str) -> dict[str, Any]:
    return {"params": {"split": "test"}}


OF_A_RUN = (
    Interaction("Explore: a page of mistakes", "explore/samples", _page_of_mistakes),
    Interaction("Explore: the images of a cell", "explore/samples", _cell),
    Interaction("Explore: one thumbnail", "images/picture", _thumbnail),
    Interaction("Explore: the confusion matrix", "explore/confusion", _test_split),
    Interaction("Explore: the map", "explore/map", _test_split),
)
"""What needs a run: asked instead where `--run` names one of ten classes. The first turn computes what is then kept."""


def photograph(seed: int) -> bytes:
    """A picture of 224×224 pixels in color, as a PNG file: smooth, with noise."""
    draw = np.random.default_rng(seed)
    smooth = np.kron(draw.integers(0, 200, (7, 7, 3)), np.ones((32, 32, 1)))
    values = (smooth + draw.integers(0, 55, smooth.shape)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


@contextmanager
def served(run: str | None) -> Iterator[str]:
    """A lab in a process of its own, opened with `run` if there is one: its address, with the token."""
    command = [sys.executable, "-m", "striate", "lab", *([] if run is None else [run]), "--no-open", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as program:
        assert program.stdout is not None
        try:
            yield json.loads(program.stdout.readline())["url"]
        finally:
            program.terminate()


@contextmanager
def client(address: str) -> Iterator[tuple[httpx.Client, str]]:
    """A client that shows the token, and the name of a picture that it has sent."""
    base, _, token = address.partition("/?token=")
    with httpx.Client(base_url=base, timeout=120, headers={"striate-key": token}) as http:
        http.get(address).raise_for_status()
        sent = http.post("/api/images/upload", params={"title": "benchmark"}, content=photograph(0))
        yield http, sent.raise_for_status().json()["name"]


def ask(http: httpx.Client, interaction: Interaction, turn: int, image: str) -> float:
    """Seconds to the whole answer. Raises httpx.HTTPStatusError."""
    arguments = interaction.arguments(turn, image)
    method = "POST" if arguments.keys() & {"json", "content"} else "GET"
    began = time.perf_counter()
    answer = http.request(method, f"/api/{interaction.path}", **arguments)
    seconds = time.perf_counter() - began
    answer.raise_for_status()
    return seconds


def alone(address: str, repeats: int, asked: Sequence[Interaction]) -> dict[str, list[float]]:
    """Seconds of each interaction, of one client; the first turn, in which things are loaded, is not counted."""
    with client(address) as (http, image):
        return {one.name: [ask(http, one, turn, image) for turn in range(repeats + 1)][1:] for one in asked}


def together(address: str, clients: int, asked: Sequence[Interaction]) -> tuple[dict[str, list[float]], int]:
    """Seconds of each interaction while so many clients do everything once at the same time, and how many failed."""
    seconds: dict[str, list[float]] = {one.name: [] for one in asked}
    failed: list[str] = []

    def work(number: int) -> None:
        order = random.Random(number).sample(asked, len(asked))
        with client(address) as (http, image):
            for one in order:
                try:
                    seconds[one.name].append(ask(http, one, 100 + number, image))
                except httpx.HTTPError as error:
                    failed.append(f"{one.name}: {error}")

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, range(clients)))
    for line in failed:
        print(line)
    return seconds, len(failed)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--run", help="a run of ten classes: Explore is measured, on its data, and nothing else")
    asked = parser.parse_args()
    interactions = INTERACTIONS if asked.run is None else OF_A_RUN
    with served(asked.run) as address:
        one = alone(address, asked.repeats, interactions)
        many, failed = together(address, asked.clients, interactions)
    rows = [
        {"interaction": name, "seconds": one[name], "together": many[name], "within": max(one[name]) <= LIMIT}
        for name in one
    ]
    print(f"{'milliseconds':<34} {'one client':^18} {f'{asked.clients} at once':^18}")
    print(f"{'':<34} {'median':>8} {'worst':>8}  {'median':>8} {'worst':>8}")
    for row in rows:
        figures = [f(row[kind]) * 1e3 for kind in ("seconds", "together") for f in (statistics.median, max)]
        print(f"{row['interaction']:<34} {figures[0]:8.0f} {figures[1]:8.0f}  {figures[2]:8.0f} {figures[3]:8.0f}")
    print(f"errors with {asked.clients} at once: {failed}")
    from striate.runs.environment import describe_environment

    here = {key: value for key, value in describe_environment().items() if key not in ("executable", "STRIATE_DATA")}
    subject = {"model": MODEL} if asked.run is None else {"run": Path(asked.run).name}
    about = {"environment": here, **subject, "clients": asked.clients, "errors": failed}
    file = Path(__file__).parent / "results" / ("lab.json" if asked.run is None else "lab_run.json")
    file.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
