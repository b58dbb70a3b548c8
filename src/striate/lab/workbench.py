"""The state that all pages of a lab share: the run that it was opened with, the images, and the signal of its end."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from striate.lab.page_images import Images
    from striate.training.trained import Trained


@dataclass
class Lab:
    """One lab, from its start to its end."""

    run: Path | None = None
    """The run directory or checkpoint that it was opened with; None without one. No page may name another one."""
    unlabeled: Path | None = None
    """A folder of pictures without labels; None without one."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    """What a browser has to show."""
    computing: threading.RLock = field(default_factory=threading.RLock)
    """Held by whoever runs a network or draws from torch's random state, so that one computation does not disturb
    another."""
    signed_in: threading.Event = field(default_factory=threading.Event)
    """Set once a browser has shown the token."""
    ending: threading.Event = field(default_factory=threading.Event)
    """Set when the lab ends; streams and waits look at it."""
    _at_end: list[Callable[[], None]] = field(default_factory=list)

    @cached_property
    def trained(self) -> Trained | None:
        """The trained network of the run; None where the lab was opened without one. Raises RunError, ModelError."""
        if self.run is None:
            return None
        from striate.api.networks import load

        with self.computing:
            return load(self.run)

    def load(self) -> None:
        """Load the run, so that errors are raised before the lab is served. Raises RunError, ModelError."""
        _ = self.trained

    @cached_property
    def images(self) -> Images:
        """The images that pages may show and compute with."""
        from striate.lab.page_images import Images

        return Images(self)

    def at_end(self, function: Callable[[], None]) -> None:
        """Register a function to call when the lab ends; it has a second."""
        self._at_end.append(function)

    def end(self) -> None:
        """End the lab: set `ending`, and call the registered functions, once."""
        if self.ending.is_set():
            return
        self.ending.set()
        for function in self._at_end:
            with suppress(Exception):  # the other functions are called too
                function()
