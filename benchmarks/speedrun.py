"""The best accuracy in a given time of wall clock, all included: `--recipe speedrun` beside what tutorials train.

Command: STRIATE_DATA=… python benchmarks/speedrun.py [--only cifar10] [--seeds 3] [--peer-seeds 1] [--ceiling 30]

Each run is one whole command in a process of its own, from the start of the program to its last line: reading,
planning, training, measuring and the report. Accuracy is that on the test images, which decided nothing. Peers train
the networks of their tutorials for the same time. `--ceiling N`: also N epochs of the recipe, however long they take.
All of it takes hours: with `--only` and `--contender` it can be done in pieces; rows measured earlier on the same
machine with the same versions stay.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.accuracy_peers import PEERS
from common.commands import row, timed, trained
from common.results import RESULTS, arguments, claim, environment, parsed, write_result

OURS, CEILING = "striate", "ceiling"


@dataclass(frozen=True)
class Target:
    """So many minutes for a data set, and the accuracy that is aimed at. `asked`: the `--minutes` of the command, where
    they are less: of a single minute, what cannot be foreseen is a larger part."""

    data: str
    minutes: float
    accuracy: float
    asked: float | None = None


TARGETS = (
    Target("mnist", 1.0, 0.9965, asked=0.92),
    Target("fashion-mnist", 2.5, 0.945),
    Target("cifar10", 12.0, 0.915),
)
BEFORE = {"cifar10": "a port of an eight-epoch airbench took 415 s here: 90.4 % with six views, 89.5 % with one"}


def ours(data: str, budget: list[str], seed: int) -> dict[str, Any]:
    """One run of the program."""
    seconds, metrics, _ = trained([data, "--recipe", "speedrun", *budget, "--seed", str(seed)])
    test = metrics["test"]
    return {
        "accuracy": test["accuracy"],
        "accuracy_one_view": test.get("accuracy_one_view", test["accuracy"]),
        "epochs": metrics["epochs"],
        "model": metrics["model"],
        "params": metrics["params"],
        "train_seconds": metrics["train_seconds"],
        "seconds": seconds,
    }


def peer(name: str, data: str, minutes: float, seed: int) -> dict[str, Any]:
    """One run of a peer; RuntimeError where it is not installed."""
    script = str(Path(__file__).parent / "common" / "accuracy_peers.py")
    environment = {"KERAS_BACKEND": "jax"} if name.startswith("Keras") else {}
    seconds, text = timed([script, name, data, str(60 * minutes), str(seed)], environment)
    return json.loads(text.strip().splitlines()[-1]) | {"seconds": seconds}


def measured(target: Target, minutes: float, asked: argparse.Namespace, ceiling: int | None) -> dict[str, Any]:
    """The contenders that were asked for on one data set."""
    rows, missing, only = [], [], asked.contender
    if only in (None, OURS):
        budget = ["--minutes", f"{target.asked if minutes == target.minutes and target.asked else minutes:g}"]
        rows.append(_row(_in_time(minutes), lambda seed: ours(target.data, budget, seed), asked.seeds))
    for name in PEERS if only is None else [only] if only in PEERS else []:
        try:
            runs = [peer(name, target.data, minutes, seed) for seed in range(asked.peer_seeds or asked.seeds)]
            rows.append(row(name, runs, is_ours=False))
        except RuntimeError as error:
            missing.append({"contender": name, "reason": str(error)})
        else:
            _show(rows[-1])
    if ceiling and only in (None, OURS, CEILING):
        rows.append(_row(f"striate, {ceiling} epochs", lambda s: ours(target.data, ["--epochs", str(ceiling)], s), 1))
    case = {"name": target.data, "options": {"minutes": minutes}, "rows": rows, "missing": missing}
    return case | ({"before": BEFORE[target.data]} if target.data in BEFORE else {})


def _in_time(minutes: float) -> str:
    return f"striate, {minutes:g} min"


def _row(name: str, run: Any, seeds: int) -> dict[str, Any]:
    found = row(name, [run(seed) for seed in range(seeds)], is_ours=True)
    _show(found)
    return found


def _show(found: dict[str, Any]) -> None:
    accuracy, seconds = found["accuracy"], found["seconds"]
    print(
        f"  {found['contender']:<28}{100 * accuracy['mean']:6.2f} ± {100 * accuracy['std']:.2f} %"
        f"  {seconds['mean']:7.1f} s  {found['epochs']['mean']:6.1f} epochs",
        flush=True,
    )


def joined(earlier: dict[str, Any] | None, case: dict[str, Any]) -> dict[str, Any]:
    """A case with the rows of an earlier piece that were not measured now; ours first, and in time before longer."""
    if earlier is None or earlier["options"] != case["options"]:
        return case
    now = {found["contender"] for found in case["rows"] + case["missing"]}
    rows, missing = (
        case[key] + [found for found in earlier[key] if found["contender"] not in now] for key in ("rows", "missing")
    )
    rows.sort(key=lambda found: (not found["ours"], found["seconds"]["mean"]))
    return case | {"rows": rows, "missing": missing}


def earlier_pieces(out: Path) -> dict[str, dict[str, Any]]:
    """The cases of a result on such a machine with these versions, by name. The build of its kernel may be another."""
    try:
        found = json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    earlier, now = ({**of, "platform": None} for of in (found["environment"], environment()))
    return {case["name"]: case for case in found["cases"]} if earlier == now else {}


def judged(target: Target, minutes: float, case: dict[str, Any]) -> dict[str, Any]:
    """The mean over seeds against the aim, and whether every run kept its time."""
    found = next((found for found in case["rows"] if found["contender"] == _in_time(minutes)), None)
    if found is None:
        return claim("–", None)
    mean, longest = found["accuracy"]["mean"], max(run["seconds"] for run in found["runs"])
    kept = longest <= 60 * target.minutes
    met = mean >= target.accuracy and kept if minutes == target.minutes else None
    return claim(f"{100 * mean:.2f} % in {longest:.0f} s at most", met)


def main() -> None:
    """Run and write results/speedrun.json."""
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--only", choices=[target.data for target in TARGETS], help="one data set")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer-seeds", type=int, help="fewer seeds for peers")
    parser.add_argument("--contender", choices=[OURS, *PEERS, CEILING], help="one contender")
    parser.add_argument("--minutes", type=float, help="another budget than that of the aim")
    parser.add_argument("--ceiling", type=int, help="also so many epochs, however long they take")
    asked = parsed(parser)
    if asked.contender == CEILING and not asked.ceiling:
        parser.error("--contender ceiling wants --ceiling EPOCHS")
    asked.seeds = 1 if asked.quick else asked.seeds
    earlier = earlier_pieces(asked.out or (RESULTS / "quick" if asked.quick else RESULTS) / "speedrun.json")
    cases, claims = [], {}
    for target in TARGETS:
        minutes = 0.2 if asked.quick else asked.minutes or target.minutes
        case = earlier.get(target.data)
        if asked.only in (None, target.data):
            print(f"{target.data}, {minutes:g} minutes")
            case = joined(case, measured(target, minutes, asked, asked.ceiling))
        if case is not None:
            cases.append(case)
            claims[f"speedrun-{target.data}"] = judged(target, minutes, case)
    print(
        write_result(
            __file__, asked, cases, about=(__doc__ or "").partition("Command")[2].partition("\n\n")[2], claims=claims
        )
    )


if __name__ == "__main__":
    main()
