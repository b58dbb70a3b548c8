"""Shared by all tests: small sets made on the spot, and one thread a process (tests run in parallel)."""

from __future__ import annotations

import copy
import gc
import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["COLUMNS"] = "80"
# Figures are compared with those of a CPU, on machines that have a GPU too; tests/gpu has what is tried on one.
if os.environ.get("STRIATE_TEST_DEVICE") != "cuda":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
# What happens to lie in this machine's caches of weights is of no concern, and nothing is fetched.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_CACHE"] = "/nonexistent/hub"
os.environ["TORCH_HOME"] = "/nonexistent/torch"

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers
from PIL import Image

# What a test writes need not survive that the power fails; waiting for the disk takes a fourteenth of all the time.
os.fsync = lambda _: None  # type: ignore[assignment]

gc.set_threshold(50_000, 20, 20)  # as the program does

# How long an example takes says how busy the machine is.
settings.register_profile("quick", deadline=None, derandomize=True)
settings.register_profile("searching", deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    """Quick runs try the same examples each time, so that a change is judged by what it changes; the long suite looks
    for new ones."""
    quick = config.option.markexpr == "not slow"
    settings.load_profile("quick" if quick else "searching")
    if quick:
        # Which constants of our sources are tried would depend on the modules that earlier tests have loaded; to look
        # for them takes each process as long as a hundred tests.
        providers._get_local_constants = lambda: providers._local_constants


def pytest_collection_finish() -> None:
    """What was loaded for collecting stays; to look through it for garbage again and again takes a twentieth of all
    the time."""
    gc.collect()
    gc.freeze()


QUICK_OF_EACH_FILE = {
    **dict.fromkeys(("doctor/checks", "doctor/evidence", "doctor/script", "doctor/setup"), 20),
    **dict.fromkeys(("cli", "data", "tasks", "training"), 3),
    **dict.fromkeys(["account", "api", "evaluation", "exporting", "extending", "lab", "models", "report"], 2),
    **dict.fromkeys(("security", "studies", "visualize"), 2),
}
"""Of the tests of a file in these rooms the first and each n-th after it are quick: much of the time goes into trying a
rule in one more form."""
ROOMS = {Path(__file__).parent / name: nth for name, nth in QUICK_OF_EACH_FILE.items()}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the cases of a test that says `pytest.mark.each_nth(n)` the first and each n-th after it stay quick, the
    others are slow; so of those of a file of the rooms above."""
    seen: Counter[object] = Counter()
    rooms = {path: [ROOMS[folder] for folder in path.parents if folder in ROOMS] for path in {i.path for i in items}}
    for item in items:
        if item.get_closest_marker("slow"):
            continue
        mark, test = item.get_closest_marker("each_nth"), item.nodeid.partition("[")[0]
        counted = [(test, mark.args[0])] if mark else []
        counted += [(item.path, nth) for nth in rooms[item.path]]
        if any(seen[key] % nth for key, nth in counted):
            item.add_marker(pytest.mark.slow)
        seen.update(key for key, _ in counted)


@pytest.fixture(autouse=True, scope="session")
def options_found_once() -> Iterator[None]:
    """What the options of a verb are is found out once, not with each command again: a fifth of the time of a test that
    calls `main`."""
    from cyclopts.argument import ArgumentCollection

    find, found = ArgumentCollection._from_callable.__func__, {}

    def find_once(cls: Any, verb: Any, *parameters: Any, reserved: Any = (), **given: Any) -> Any:
        if given.get("parse_docstring", True):
            return find(cls, verb, *parameters, reserved=reserved, **given)
        key = (verb, parameters, reserved := tuple(reserved or ()), *given.items())
        if key not in found:
            found[key] = find(cls, verb, *parameters, reserved=reserved, **given)
        fresh = {id(one): copy.copy(one) for one in found[key]}
        for one in fresh.values():
            one.tokens = []
            one.children = cls(fresh[id(child)] for child in one.children)
        return cls(fresh.values())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ArgumentCollection, "_from_callable", classmethod(find_once))
        yield


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder of its own, so that `runs/` never lands in the project; what is kept for later
    runs lies beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path.with_name(f"{tmp_path.name}-cache")))
    return tmp_path


@pytest.fixture(autouse=True, scope="module")
def without_drawing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Reports of runs have one tiny picture: drawing takes six times as long as these trainings, and has tests of its
    own. Modules that look at pictures say `pytestmark = pytest.mark.draws`, single tests ask for `drawing`,
    fixtures for `drawn`."""
    if request.node.get_closest_marker("draws"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        _leave_out(patch)
        yield


_DRAWN: dict[tuple[Any, str], Any] = {}
"""What `without_drawing` has put aside."""


def _leave_out(patch: pytest.MonkeyPatch) -> None:
    from striate.machine.second_process import Later
    from striate.report import finish, rewards

    instead = {
        (finish, "_curves"): lambda run, _: Later(_tiny_picture, (run.plots,), None),
        (finish, "_sample_pictures"): lambda *_: Later(tuple, (), None),
        (finish, "draw_first_filters"): lambda *_: (),
        (finish, "draw_signal"): _tiny_picture,
        (finish, "of_task"): lambda *_: {},
        (rewards, "_pictures"): lambda *_: [],
        (rewards, "_inside"): lambda *_: [],
    }
    for (module, name), nothing in instead.items():
        _DRAWN.setdefault((module, name), getattr(module, name))
        patch.setattr(module, name, nothing)


def _tiny_picture(folder: Path, *_: object) -> Any:
    from striate.visualize.page_parts import Picture

    path = folder / "signal.png"
    folder.mkdir(exist_ok=True)  # as what draws does
    Image.new("RGB", (1, 1)).save(path)
    return Picture("Signal through the layers", "one pixel", path, "signal")


@contextmanager
def _drawn() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), original in _DRAWN.items():
            patch.setattr(module, name, original)
        yield


@pytest.fixture(scope="session")
def drawn() -> Callable[[], AbstractContextManager[None]]:
    """What is trained in `with drawn():` has all pictures in its report."""
    return _drawn


@pytest.fixture
def drawing() -> Iterator[None]:
    """The report of this test's runs has its pictures."""
    with _drawn():
        yield


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of small color pictures, one subfolder a class: bright reds, greens, blues with noise."""

    def make(classes: int = 3, each: int = 12, size: int = 16, name: str = "photos") -> Path:
        return _write_photos(tmp_path / name, classes, each, size)

    return make


@pytest.fixture(scope="session")
def write_photos() -> Callable[[Path, int, int, int], Path]:
    """Writes what `photos` makes into a folder of one's choice: folder, classes, pictures of each, their size."""
    return _write_photos


@pytest.fixture(scope="session")
def same_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `photos()` makes, once for all tests: to be read only."""
    return _write_photos(tmp_path_factory.mktemp("same") / "photos", 3, 12, 16)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits, barely trained, so that there are mistakes, with its pictures; made once for all tests: to be
    read only."""
    import torch
    from rich.console import Console

    from striate.api import train_config
    from striate.training.config import Config
    from striate.training.request import merge_request

    out = tmp_path_factory.mktemp("trained") / "digits"
    fields = {"model.name": "conv(4,3) relu pool(2) fc(10)", "execution.plan": "plain", "optim.lr": 0.002}
    config = merge_request(Config(), data="digits", epochs=1, fields=fields)
    with torch.random.fork_rng(), _drawn():
        train_config(config, out=out, console=Console(stderr=True), quiet=True)
    return out


def _write_photos(place: Path, classes: int, each: int, size: int) -> Path:
    rng = np.random.default_rng(0)
    for k in range(classes):
        folder = place / ["red", "green", "blue", "gray"][k]
        folder.mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 90, (size, size, 3), dtype=np.uint8)
            if k < 3:
                pixels[..., k] += 150
            Image.fromarray(pixels).save(folder / f"{i:03}.png")
    return place
