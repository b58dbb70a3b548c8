"""Seconds from a key to the next picture in a real browser, for three pages of the lab.

Command: python benchmarks/lab_browser.py [--repeats 10]
Chromium without a window opens a lab of its own: Build with resnet18 (11.7 million parameters, 3×224×224), where each
repeat asks for another number of outputs; Pixels with 14 × 14 numbers of a picture of 224×224, where each moves down by
eight; Play with a padded map, where each changes the size of the input. A repeat ends when the browser has drawn what
follows. Needs playwright and Debian's Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections.abc import Callable
from urllib.parse import quote

from playwright.sync_api import sync_playwright

from lab import client, served

MEASURE = """async ([k, field, shown, key]) => {
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const element = document.querySelector(field), watched = document.querySelector(shown), before = watched.textContent;
  const began = performance.now();
  if (key) element.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey: true }));
  else { element.value = String(k); element.dispatchEvent(new Event("input", { bubbles: true })); }
  while (document.querySelector(shown).textContent === before) await frame();
  await frame();
  return performance.now() - began;
}"""
NUMBER = "input[type=number]"
PAGES: tuple[tuple[str, str, str, str, str, Callable[[int], int]], ...] = (
    ("Build: other outputs", "build?model=resnet18&input=3x224x224", NUMBER, ".figures dd", "", lambda k: 900 - k),
    ("Pixels: eight rows on", "pixels?image=upload", ".numbers", ".readout", "ArrowDown", lambda k: k),
    ("Play: another size", "play?padding=4", NUMBER, ".result-line", "", lambda k: 8 + k % 8),
)
"""Name, address, what a key changes, what is waited for, the key or none, and the number that is typed in turn `k`."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    print(f"{'milliseconds':<36} {'median':>7} {'worst':>7}")
    with served(None) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--disable-gpu"], chromium_sandbox=False
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        home, token = address.split("/?")
        with client(address) as (_, image):
            pass  # its picture stays
        for name, path, field, shown, key, value in PAGES:
            page.goto(f"{home}/{path.replace('upload', quote(image))}&{token}")
            page.wait_for_selector(shown)
            page.wait_for_timeout(1000)
            taken = [page.evaluate(MEASURE, [value(k), field, shown, key]) for k in range(repeats + 1)][1:]
            print(f"{name:<36} {statistics.median(taken):7.0f} {max(taken):7.0f}")
        browser.close()


if __name__ == "__main__":
    main()
