"""The pictures of README.md and docs/, made anew by the commands and pages that the text beside them describes.

Command: python benchmarks/docs_pictures.py [PICTURE…] [--folder /tmp/docs_pictures]
A picture is named by its path below docs/images; without a name all are made, except those that need hours
(learning-curve-pretrained.png: five trainings of each size on all of MNIST). Networks are trained into `runs/` of the
folder, once: delete a run there to train it again. Needs the data sets that `RUNS` names (`STRIATE_DATA`), playwright
and Debian's Chromium. Look at each picture before you commit it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from PIL import Image

from lab import served

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parent / "docs" / "images"
LARGE = 150_000
"""Bytes of a picture from which it gets 256 colors."""
PATIENCE = 600_000
"""Milliseconds that a page may take, on a machine that other programs use too."""

RUNS = {
    "fashion": "fashion-mnist --epochs 4",
    "flowers": "flowers --model small-resnet --minutes 3",
    "digits": "digits --model 'conv(8,3) relu pool(2) conv(16,3) relu fc(10)' --epochs 4",
    "cells": "bccd --minutes 4",
    "mnist5k": "mnist5k --epochs 20",
    "tanh-auto": "mnist5k --model '20*[fc(100) tanh] fc(10)' --model.init auto --epochs 1",
    "tanh-normal": "mnist5k --model '20*[fc(100) tanh] fc(10)' --model.init normal --epochs 1",
    "crbm": "flowers --task reconstruct --model 'crbm(24,kernel=10,visible=gaussian,sparsity=0.005)' --size 40"
    " --data.channels 1 --epochs 20",
    "memorized": "fashion-mnist --model 'fc(256) relu fc(10)' --epochs 30 --augment.shift 0 --augment.flip false"
    " --task.label_smoothing 0 --optim.weight_decay 0 --keep last --seed 0",
}
"""The arguments of `striate train`, by the name of the run."""

SHOWN: dict[str, tuple[str, str, int]] = {
    "pictures/filters.png": ("flowers", "filters", 610),
    "pictures/maps.png": ("fashion", "maps", 1000),
    "pictures/patches.png": ("flowers", "patches", 582),
    "pictures/deconvnet.png": ("digits", "deconvnet --layer relu2", 696),
    "pictures/maximize.png": ("fashion", "maximize", 850),
    "pictures/invert.png": ("fashion", "invert", 680),
    "pictures/embedding.png": ("fashion", "embedding", 1470),
    "pictures/correlation.png": ("fashion", "correlation", 1050),
    "pictures/tuning.png": ("fashion", "tuning", 1050),
    "pictures/field.png": ("flowers", "field", 666),
    "pictures/landscape.png": ("fashion", "landscape", 1000),
    "crbm_filters.png": ("crbm", "filters", 610),
}
"""Pictures of `striate show RUN WHAT`: the run, WHAT with its options, and the largest width in pixels."""


def striate(*arguments: str) -> None:
    """Run a command of the program; what it prints is shown. Raises RuntimeError where it cannot be carried out."""
    if subprocess.run([sys.executable, "-m", "striate", *arguments], check=False).returncode not in (0, 1):
        raise RuntimeError(f"failed: striate {' '.join(arguments)}")


def trained(name: str) -> str:
    """The run of that name, trained if it is not there."""
    run = Path("runs", name)
    if not (run / "report.html").exists():
        striate("train", *shlex.split(RUNS[name]), "--out", str(run))
    return str(run)


def keep(picture: Path, name: str, width: int) -> None:
    """Store a PNG under docs/images, at most `width` pixels wide; with 256 colors where it is large otherwise."""
    image = Image.open(picture).convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    image.save(IMAGES / name, optimize=True)
    if (IMAGES / name).stat().st_size > LARGE:
        image.quantize(256).save(IMAGES / name, optimize=True)


# ------------------------------------------------------------------------------------------------ commands


def show(name: str) -> None:
    """A picture of `striate show`."""
    run, what, width = SHOWN[name]
    striate("show", trained(run), *what.split(), "--out", "shown.png", "--force")
    keep(Path("shown.png"), name, width)


def augmentation(name: str) -> None:
    """The command of docs/data.md."""
    options = "--augment --count 5 --augment.rotate 15 --augment.scale 0.15 --augment.cutout 0.25"
    striate("data", "show", "mnist5k", *options.split(), "--out", "digits.png", "--force")
    keep(Path("digits.png"), name, 900)


def imagenet(name: str) -> None:
    """The command of docs/lectures.md."""
    striate("models", "--history", "--out", "imagenet.png", "--force")
    keep(Path("imagenet.png"), name, 860)


def lenet(name: str) -> None:
    """The command of docs/summary.md."""
    striate("summary", "lenet5", "--effective", "--svg", "lenet5.svg", "--force")
    shutil.copyfile("lenet5.svg", IMAGES / name)


def robustness(name: str) -> None:
    """The command of docs/robustness.md."""
    run = trained("fashion")
    if not Path(run, "robustness.json").exists():
        striate("eval", run, "--robustness")
    keep(Path(run, "plots", "robustness.png"), name, 1078)


def learning_curve(name: str) -> None:
    """The command of docs/learning-curve.md."""
    run = trained("mnist5k")
    if not Path(run, "learning-curve.json").exists():
        striate("eval", run, "--learning-curve")
    keep(Path(run, "plots", "learning-curve.png"), name, 696)


def calibration(name: str) -> None:
    """Two of the drawings that docs/evaluation.md names, of the network that has memorized its training images."""
    from striate.visualize.canvas import figure_of, print_figure
    from striate.visualize.classification_charts import draw_precision_recall, draw_reliability

    found = json.loads(Path(trained("memorized"), "evaluation.json").read_text())["splits"]["test"]
    title = f"Fashion-MNIST, test split, n = {found['n']:,}"
    charts = (
        lambda axes: draw_reliability(axes, found["calibration"]["bins"], found["calibrated"]["bins"]),
        lambda axes: draw_precision_recall(axes, found["curves"], found["classes"]),
    )
    drawn = []
    for draw in charts:
        file = BytesIO()
        print_figure(figure_of(draw, 4.5, 4.4, title), file, "png")
        drawn.append(Image.open(file))
    both = Image.new("RGB", (sum(one.width for one in drawn), drawn[0].height))
    both.paste(drawn[0], (0, 0))
    both.paste(drawn[1], (drawn[0].width, 0))
    both.save("calibration.png")
    keep(Path("calibration.png"), name, 900)


def signal(name: str) -> None:
    """What `signal.json` has of twenty tanh layers before the first step, for two initializations."""
    from striate.account.signal.trace import signal_from_json
    from striate.visualize.canvas import new_figure, print_figure
    from striate.visualize.signal_figure import QUANTITIES, draw_signal_curve, name_layers

    figure = new_figure(8.6, 5)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for init, column in zip(("auto", "normal"), panels.T, strict=True):
        rows = signal_from_json(json.loads(Path(trained(f"tanh-{init}"), "signal.json").read_text())["start"])
        for quantity, axes in zip(QUANTITIES, column, strict=True):
            draw_signal_curve(axes, rows, quantity)
            axes.set_title(f"{QUANTITIES[quantity][0]}, init {init}", loc="left", fontsize=9)
        name_layers(column[1], rows)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    with Path("signal.png").open("wb") as file:
        print_figure(figure, file, "png")
    keep(Path("signal.png"), name, 864)


def demo(name: str) -> None:
    """The last lines of `make demo` in a terminal of 80 columns."""
    from rich.console import Console
    from rich.text import Text

    program = f"{sys.executable} {HERE.parent / 'examples' / 'first_run.py'}"
    said = subprocess.run(
        ["script", "-qec", f"stty cols 80; {program}", "/dev/null"], check=True, capture_output=True, text=True
    ).stdout
    # A progress bar draws its line again and again: what follows the last return stays.
    lines = [re.split(r"\r|\x1b\[2K|\x1b\[1A", line.rstrip("\r"))[-1] for line in said.split("\n")]
    console = Console(record=True, width=80, force_terminal=True, file=StringIO())
    console.print("$ make demo", highlight=False)
    console.print(Text.from_ansi("\n".join(lines)))
    console.save_svg(str(IMAGES / name), title="striate")


# --------------------------------------------------------------------------------------------------- pages


def report(page: Any) -> None:
    """The first screen of a report."""
    page.goto(Path(trained("fashion"), "report.html").resolve().as_uri())


def explain(page: Any) -> None:
    """The page of a photograph."""
    photograph = Path(os.environ["STRIATE_DATA"], "flowers", "daisy", "2521408074_e6f86daf21_n.jpg")
    striate("explain", trained("flowers"), str(photograph), "--out", "why.html", "--force")
    page.goto(Path("why.html").resolve().as_uri())


def build(page: Any, open_page: Callable[[str], None]) -> None:
    """A residual network, with one layer chosen."""
    body = "2*[res[conv(16,3,pad=1) bn relu conv(16,3,pad=1)] relu]"
    open_page(f"build?model=conv(16,3,pad=1) relu {body} pool(2) conv(32,3,stride=2) relu gap fc(10)&input=3x32x32")
    page.get_by_role("button", name="pool1").click()


def predict(page: Any, open_page: Callable[[str], None]) -> None:
    """A picture that is uploaded to a detector."""
    open_page("predict")
    page.get_by_role("button", name="Upload").click()
    page.set_input_files("input[type=file]", Path(os.environ["STRIATE_DATA"], "bccd/JPEGImages/BloodImage_00000.jpg"))
    page.get_by_text("BloodImage_00000.jpg,").wait_for()


def watch(_page: Any, open_page: Callable[[str], None]) -> None:
    """A dandelion in the first convolution of a residual block."""
    open_page("watch?image=run%2390&layer=4")


def play(_page: Any, open_page: Callable[[str], None]) -> None:
    """A window on its way over a map; a kernel on a photograph."""
    open_page("play?size=8&stride=2&padding=1&weights=sobel-x&at=5&image=run%2345&filter=sharpen")


def train(page: Any, open_page: Callable[[str], None]) -> None:
    """A training that is watched, in its last epochs."""
    open_page(
        "train?data=fashion-mnist&model=conv(16,7) relu pool(2) conv(32,3) relu pool(2) fc(64) relu fc(10)&epochs=6"
    )
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text(re.compile("5 of 6")).wait_for()
    page.wait_for_timeout(3000)


def explore(page: Any, open_page: Callable[[str], None]) -> None:
    """The map of a split, with one image chosen."""
    open_page("explore?view=map&method=tsne&split=test")
    page.get_by_role("application").press("ArrowRight")


FILES: dict[str, tuple[Callable[[Any], None], int, int]] = {
    "report.png": (report, 1110, 1040),
    "explain.png": (explain, 1100, 1240),
}
"""Pages that a command writes, with their width and height in pixels."""

LAB: dict[str, tuple[str, Callable[[Any, Callable[[str], None]], None], int, int]] = {
    "lab-build.png": ("flowers", build, 1280, 1000),
    "lab-predict.png": ("cells", predict, 1024, 640),
    "lab-watch.png": ("flowers", watch, 1320, 1560),
    "lab-play.png": ("flowers", play, 1280, 1080),
    "lab-train.png": ("flowers", train, 1200, 1180),
    "lab-explore.png": ("fashion", explore, 1200, 900),
}
"""Pages of the lab: the run that it is opened with, what is done there, width and height in pixels."""

COMMANDS: dict[str, Callable[[str], None]] = {
    **dict.fromkeys(SHOWN, show),
    "augmentation.png": augmentation,
    "imagenet.png": imagenet,
    "lenet5.svg": lenet,
    "robustness.png": robustness,
    "learning-curve.png": learning_curve,
    "calibration.png": calibration,
    "signal.png": signal,
    "demo.svg": demo,
}


def photograph(name: str) -> None:
    """A picture of a page, as a browser shows it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--disable-gpu", "--hide-scrollbars"],
            chromium_sandbox=False,
        )
        *run, act, width, height = FILES[name] if name in FILES else LAB[name]
        page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
        page.set_default_timeout(PATIENCE)
        if not run:
            act(page)
            page.screenshot(path="page.png")
        else:
            with served(trained(run[0])) as address:
                home, key = address.split("/?")

                def open_page(path: str) -> None:
                    page.goto(f"{home}/?{key}")
                    page.goto(f"{home}/{path}")
                    page.wait_for_load_state("networkidle")

                act(page, open_page)
                page.wait_for_load_state("networkidle")
                page.evaluate("window.scrollTo(0, 0)")
                page.wait_for_timeout(1000)
                page.screenshot(path="page.png")
        browser.close()
    keep(Path("page.png"), name, width)


def main() -> None:
    """Make the pictures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    makers = COMMANDS | dict.fromkeys([*FILES, *LAB], photograph)
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help=", ".join(makers))
    parser.add_argument("--folder", type=Path, default=Path("/tmp/docs_pictures"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.folder)
    for name in arguments.pictures or makers:
        makers[name](name)
        print(f"{name}: {(IMAGES / name).stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
