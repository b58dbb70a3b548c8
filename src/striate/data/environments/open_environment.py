"""From `gym:ID` to an environment."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from typing import Any

from striate.data.environments.atari import Atari
from striate.data.environments.catch import CATCH, Catch
from striate.data.environments.environment import Environment
from striate.data.environments.minatar import GAMES, MinAtar
from striate.data.environments.registered import Registered
from striate.errors import DataError

PREFIX = "gym:"


def is_environment(source: Any) -> bool:
    """Whether the source is an environment, `gym:ID`."""
    return isinstance(source, str) and source.startswith(PREFIX)


def open_environment(source: str) -> Environment:
    """The environment `gym:ID`, before its first `reset`.

    `striate/Catch-v0` is built in; `MinAtar/…` and `ALE/…` are prepared as published; other IDs are those of gymnasium.
    Raises DataError for an unknown ID, a missing package, or observations that are not pixels.
    """
    return opener(source)()


def opener(source: str) -> Callable[[], Environment]:
    """A function that makes an environment of `source` with each call. Raises DataError as `open_environment` does."""
    name = source.removeprefix(PREFIX)
    if name == CATCH:
        return Catch
    if found := re.fullmatch(r"MinAtar/(\w+)-(v[01])", name):
        _require(source, "minatar")
        game = _known(source, found[1], GAMES, "MinAtar/{}-v1")
        return partial(MinAtar, game, found[2])
    if found := re.fullmatch(r"ALE/(\w+)-v5", name):
        _require(source, "ale_py")
        roms = _roms()
        game = _known(source, found[1], roms, "ALE/{}-v5")
        return partial(Atari, game, roms[game])
    if not name or name.startswith(("striate/", "MinAtar/", "ALE/")):
        expected = "gym:striate/Catch-v0, gym:MinAtar/GAME-v1, gym:ALE/GAME-v5, or an environment of gymnasium"
        raise DataError(f"data {source}", name or "no name", expected, "striate train gym:striate/Catch-v0")
    _require(source, "gymnasium")
    return partial(Registered, name)


def _require(source: str, package: str) -> None:
    if find_spec(package) is None:
        raise DataError(
            f"data {source}",
            f"the package {package} is not installed",
            "the extra `control`: gymnasium, MinAtar and ale-py",
            "pip install 'striate[control]', or a game that needs no package: striate train gym:striate/Catch-v0",
        )


def _roms() -> dict[str, str]:
    """The files of the games, by their names in gymnasium."""
    from ale_py import roms

    return {rom.title().replace("_", ""): rom for rom in roms.get_all_rom_ids()}


def _known(source: str, game: str, games: dict[str, str], form: str) -> str:
    if game in games:
        return game
    near = get_close_matches(game, games, 1) or [next(iter(games))]
    few = ", ".join(list(games)[:8]) + (" …" if len(games) > 8 else "")
    remedy = f"striate train gym:{form.format(near[0])}"
    raise DataError(f"data {source}", f"the game {game}", f"one of {few}", remedy)
