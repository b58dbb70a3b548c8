"""Invariance to a learned transformation: detectors learn digits in several orientations, and the maximum over them
answers to a digit however it is turned (Goodfellow, Bengio and Courville, "Deep learning", 2016, figure 9.9).

Nothing in the network knows about rotations: it sees turned digits while it learns, that is all. Three networks learn
from digits turned by up to 60 degrees, one from upright digits; all are then measured on digits turned by up to 90.
What comes out: eight detectors a class stand for turned digits where one cannot, but a hidden layer with as many
parameters does a little better, and most of the eight are not used.
Writes rotation-invariance.png. Command: python examples/rotation_invariance.py
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import nn
from torch.nn import functional

import striate
from striate.data.config import DataConfig
from striate.data.dataset import Split
from striate.data.read import load_dataset
from striate.visualize.canvas import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    VERMILION,
    heading,
    new_figure,
    quiet_frame,
    save_figure,
)

DETECTORS = 8
LEARNED = 60
BATCH = 250
ANGLES = tuple(range(-90, 91, 15))
DIGIT = 4


@dataclass(frozen=True)
class Contestant:
    """A network, and by how many degrees its training digits are turned at most."""

    name: str
    network: str
    turned: int
    color: str


POOLED = Contestant("maximum over 8 detectors a class", f"fc({10 * DETECTORS}) maxout({DETECTORS})", LEARNED, BLUE)
CONTESTANTS = (
    POOLED,
    Contestant("no pooling, as many parameters", "fc(79) relu fc(10)", LEARNED, ORANGE),
    Contestant("1 detector a class", "fc(10)", LEARNED, GREEN),
    Contestant("maximum over 8, learned upright", POOLED.network, 0, VERMILION),
)


def turn(x: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Images (N, 1, H, W) turned counterclockwise about their centers by `degrees` (N,), dark outside; bilinear."""
    angle = degrees * (math.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def learn(contestant: Contestant, digits: Split, epochs: int, seed: int) -> nn.Module:
    """The network after `epochs` epochs, each with digits turned anew."""
    torch.manual_seed(seed)
    net = striate.build(contestant.network, (1, 28, 28), 10)
    x, y = digits.inputs.float() / 255, digits.targets
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.006, weight_decay=0.05)
    steps = epochs * math.ceil(len(x) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        turned = turn(x, (2 * torch.rand(len(x)) - 1) * contestant.turned)
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(net(turned[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def accuracies(net: nn.Module, digits: Split) -> list[float]:
    """The share of digits that are recognized, at each of `ANGLES`."""
    x = digits.inputs.float() / 255
    answers = (net(turn(x, torch.full((len(x),), float(angle)))).argmax(1) for angle in ANGLES)
    return [float((answer == digits.targets).float().mean()) for answer in answers]


@torch.no_grad()
def responses(net: nn.Module, digits: Split) -> tuple[np.ndarray, np.ndarray]:
    """What the detectors of `DIGIT` say to digits of that class at each of `ANGLES`, on average (angles, detectors),
    and what their maximum says (angles,)."""
    x = digits.inputs[digits.targets == DIGIT].float() / 255
    before_pooling = nn.Sequential(*list(net.children())[:-1])
    single, pooled = [], []
    for angle in ANGLES:
        all_detectors = before_pooling(turn(x, torch.full((len(x),), float(angle))))
        own = all_detectors[:, DIGIT * DETECTORS : (DIGIT + 1) * DETECTORS]
        single.append(own.mean(0).numpy())
        pooled.append(float(own.max(1).values.mean()))
    return np.array(single), np.array(pooled)


@torch.no_grad()
def detectors_in_use(net: nn.Module, digits: Split) -> np.ndarray:
    """For each class, how many of its detectors are the largest for more than 2 % of its digits at learned angles."""
    x = digits.inputs.float() / 255
    before_pooling, own = nn.Sequential(*list(net.children())[:-1]), torch.arange(len(x))
    wins = torch.zeros(10, DETECTORS)
    for angle in (angle for angle in ANGLES if abs(angle) <= LEARNED):
        answers = before_pooling(turn(x, torch.full((len(x),), float(angle)))).unflatten(1, (10, DETECTORS))
        winners = functional.one_hot(answers[own, digits.targets].argmax(1), DETECTORS).float()
        wins.index_add_(0, digits.targets, winners)
    return (wins / wins.sum(1, keepdim=True) > 0.02).sum(1).numpy()


def draw_responses(axes: Axes, single: np.ndarray, pooled: np.ndarray) -> None:
    """Each detector has an orientation that it answers to; the maximum follows whichever answers most."""
    axes.plot(ANGLES, single, color=FAINT, linewidth=1)
    axes.plot(ANGLES, pooled, color=BLUE, linewidth=2.5, label="their maximum")
    axes.plot([], [], color=FAINT, linewidth=1, label=f"one of {DETECTORS} detectors")
    heading(axes, f"Response to turned digits {DIGIT}")
    axes.set_ylabel("mean response")


def draw_accuracies(axes: Axes, curves: dict[str, np.ndarray]) -> None:
    """Mean over seeds, with the range between them."""
    for contestant in CONTESTANTS:
        percent = 100 * curves[contestant.name]
        axes.plot(ANGLES, percent.mean(0), color=contestant.color, linewidth=2, label=contestant.name)
        axes.fill_between(ANGLES, percent.min(0), percent.max(0), color=contestant.color, alpha=0.2, linewidth=0)
    heading(axes, "Test accuracy on turned digits")
    axes.set_ylabel("recognized [%]")
    axes.set_ylim(0, 100)


def study(epochs: int, seeds: int, out: Path) -> dict[str, np.ndarray]:
    """Accuracies (seeds, angles) by contestant; the picture at `out`, and what the pooled network's detectors do."""
    splits = load_dataset(DataConfig("mnist5k")).splits
    curves: dict[str, np.ndarray] = {}
    nets: dict[str, nn.Module] = {}
    for contestant in CONTESTANTS:
        trained = [learn(contestant, splits["train"], epochs, seed) for seed in range(seeds)]
        curves[contestant.name] = np.array([accuracies(net, splits["test"]) for net in trained])
        nets[contestant.name] = trained[0]
    in_use = detectors_in_use(nets[POOLED.name], splits["test"])
    print(f"detectors in use, of {DETECTORS} a class: {in_use.min()} to {in_use.max()}, mean {in_use.mean():.1f}\n")
    figure = new_figure(11, 4.6)
    left, right = figure.subplots(1, 2)
    draw_responses(left, *responses(nets[POOLED.name], splits["test"]))
    draw_accuracies(right, curves)
    for axes in (left, right):
        quiet_frame(axes)
        axes.axvspan(-LEARNED, LEARNED, color=FAINT, alpha=0.1, linewidth=0)
        axes.set_xlabel("turned by [degrees]; gray: angles that were learned")
        axes.set_xticks(range(-90, 91, 30))
        axes.legend(fontsize=8.5, loc="upper right" if axes is left else "lower center")
    save_figure(figure, out)
    return curves


def main(epochs: int = 20, seeds: int = 3, out: Path = Path("rotation-invariance.png")) -> dict[str, np.ndarray]:
    """Learn, measure, print the table, draw the picture."""
    curves = study(epochs, seeds, out)
    shown = [k for k, angle in enumerate(ANGLES) if angle % 30 == 0]
    print(f"{'test accuracy [%] of digits turned by':<40}" + "".join(f"{ANGLES[k]:>7}°" for k in shown))
    for contestant in CONTESTANTS:
        count = sum(p.numel() for p in striate.build(contestant.network, (1, 28, 28), 10).parameters())
        values = 100 * curves[contestant.name].mean(0)
        print(f"{contestant.name + ',':<34}{count:>6,}" + "".join(f"{values[k]:8.1f}" for k in shown))
    print(
        f"\nrange of {seeds} seeds: upright; turned by {LEARNED}°; largest difference between learned angles, in points"
    )
    inside = [k for k, angle in enumerate(ANGLES) if abs(angle) <= LEARNED]
    turned = [k for k, angle in enumerate(ANGLES) if abs(angle) == LEARNED]
    for contestant in CONTESTANTS:
        percent = 100 * curves[contestant.name]
        found = (percent[:, ANGLES.index(0)], percent[:, turned].mean(1), np.ptp(percent[:, inside], axis=1))
        print(f"{contestant.name:<33}" + "".join(f"{v.min():8.1f} to {v.max():.1f}" for v in found))
    print(f"\n{out}")
    return curves


if __name__ == "__main__":
    main()
