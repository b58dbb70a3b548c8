"""A real browser for the tests of pages: Debian's Chromium, driven by Playwright; without it they skip."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Nothing of the browser's own leaves the machine, so that what does is a page's.
OPTIONS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


class Visit:
    """A page in a fresh browser, with what went wrong: `errors` of its console, `strangers` that it asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.strangers: list[str] = []
        page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._requested)

    def _requested(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:", "ws://127.0.0.1:")):
            self.strangers.append(request.url)

    def violations(self) -> list[str]:
        """What axe finds: rule, what it means, and the first elements; empty where all is well."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes'][:3]]}" for one in found]

    def too_wide(self) -> int:
        """By how many pixels the page is wider than its window; 0 where nothing has to be scrolled sideways."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """The browser, started once for all tests of this folder; ended after them, since its event loop keeps all others
    of its thread from running."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS, chromium_sandbox=False)
        yield browser
        with suppress(Exception):
            browser.close()


@pytest.fixture
def lab_address() -> Iterator[Callable[..., str]]:
    """`lab_address(path="/", run=None)` opens a lab in this process; the address of a page of it, with the token."""
    from socket import create_server
    from threading import Thread
    from time import sleep

    import uvicorn

    from striate.lab.application import make_application
    from striate.lab.workbench import Lab
    from striate.serving.connection import Connection

    servers: list[tuple[Any, Lab, Thread]] = []

    def open_lab(path: str = "/", run: Path | None = None) -> str:
        lab, listening = Lab(run), create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            make_application(lab, port), http=Connection, log_level="critical", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            sleep(0.01)
        servers.append((server, lab, thread))
        return f"http://127.0.0.1:{port}{path}{'&' if '?' in path else '?'}token={lab.token}"

    yield open_lab
    for server, lab, thread in servers:
        lab.end()
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visit]]:
    """`visit(address or file, width=1280, dark=False)` opens a page."""
    contexts = []

    def open_page(address: str | Path, width: int = 1280, height: int = 900, dark: bool = False) -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        contexts.append(context)
        visit = Visit(context.new_page())
        visit.page.goto(address.resolve().as_uri() if isinstance(address, Path) else address)
        return visit

    yield open_page
    for context in contexts:
        context.close()
