"""The run directory: its place and its files; it is never overwritten silently."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from striate.errors import RunError, pasted
from striate.runs.files import TEMPORARY, append_text, explained, read_optional_json, write_text
from striate.runs.plain_files import FOLDERS, folder_of, is_there, make_folder, require_kind
from striate.runs.verified_files import read_verified
from striate.wording import listed, type_of

RunPath = str | os.PathLike[str]
"""A run directory or a checkpoint: its path, or the `Run` that a training returned."""

LOCK = ".lock"
"""The file that the process which trains a run keeps locked (`striate.runs.lock`)."""

_NETWORKS = (".pt", ".pth", ".safetensors", ".onnx", ".pt2", ".xml")
"""Suffixes of files with a network but without its run: checkpoints and exports."""


@dataclass(frozen=True)
class RunDirectory:
    """Paths of one run; docs/runs.md describes the files."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, written first."""
        return self.path / "config.yaml"

    @property
    def metrics_csv(self) -> Path:
        """One row per epoch."""
        return self.path / "metrics.csv"

    @property
    def metrics_json(self) -> Path:
        """The final metrics; exists only when the run is complete."""
        return self.path / "metrics.json"

    @property
    def classes(self) -> Path:
        """Class names, one per line."""
        return self.path / "classes.txt"

    @property
    def words(self) -> Path:
        """The vocabulary of a network that writes text, one word per line, the commonest first; only then."""
        return self.path / "words.txt"

    @property
    def split(self) -> Path:
        """`path,label,split`, one row per file."""
        return self.path / "split.csv"

    @property
    def folds(self) -> Path:
        """Which fold of a cross-validation holds out which sample; only then."""
        return self.path / "folds.csv"

    @property
    def seen(self) -> Path:
        """The digest of the content of each training and validation sample, one per line."""
        return self.path / "seen.txt"

    @property
    def evaluation(self) -> Path:
        """The full evaluation of the network: `striate.tasks.assessment`."""
        return self.path / "evaluation.json"

    @property
    def predictions(self) -> Path:
        """The folder of the predictions for each sample: `striate.runs.predictions`."""
        return self.path / "predictions"

    @property
    def evaluations(self) -> Path:
        """The folder of evaluations on other data."""
        return self.path / "evaluations"

    @property
    def robustness(self) -> Path:
        """Robustness against changes of the images; only if it was measured."""
        return self.path / "robustness.json"

    @property
    def invariance(self) -> Path:
        """How far features move with the image; only if it was measured."""
        return self.path / "invariance.json"

    @property
    def learning_curve(self) -> Path:
        """How good the network is with fewer samples; only if it was measured."""
        return self.path / "learning-curve.json"

    @property
    def signal(self) -> Path:
        """Strength of activations and gradients in each layer: `start`, before the first step, and later `end`."""
        return self.path / "signal.json"

    @property
    def forecast(self) -> Path:
        """What the run will take and reach, and its pace; only if it was measured."""
        return self.path / "forecast.json"

    @property
    def plan(self) -> Path:
        """The table of the execution plan; only if one was measured, or cached from an earlier run."""
        return self.path / "plan.json"

    @property
    def environment(self) -> Path:
        """Machine and versions."""
        return self.path / "env.json"

    @property
    def events(self) -> Path:
        """What happened, one JSON line per event."""
        return self.path / "events.jsonl"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def previous(self) -> Path:
        """The checkpoint before it."""
        return self.path / "checkpoints" / "previous.pt"

    @property
    def best(self) -> Path:
        """The checkpoint that was best on validation."""
        return self.path / "checkpoints" / "best.pt"

    @property
    def plots(self) -> Path:
        """Pictures."""
        return self.path / "plots"

    @property
    def report(self) -> Path:
        """The one-page report."""
        return self.path / "report.html"


def refuse_occupied(out: Path) -> None:
    """Raise RunError where `out` is a file, or a folder that is not empty."""
    with explained(out):
        if not out.exists() or (out.is_dir() and not any(_counts(path) for path in out.rglob("*"))):
            return
    verb = "sweep" if _is_sweep(out) else "train" if (out / "config.yaml").exists() else ""
    held = "a file" if not out.is_dir() else {"sweep": "a sweep", "train": "a run"}.get(verb, "other files")
    place = out if out.name not in ("", "..") else out.resolve()
    free = next(f"{place}-{k}" for k in itertools.count(2) if not os.path.lexists(f"{place}-{k}"))
    remedy = f"--out {pasted(free)}" + (f", or resume it with: striate {verb} --resume {pasted(out)}" if verb else "")
    raise RunError(str(out), f"a path that already holds {held}", "a new or empty folder", remedy)


def _counts(path: Path) -> bool:
    """Whether it is a file that a run must not be mixed with; not one that a killed process has left."""
    return (path.is_symlink() or not path.is_dir()) and path.name != LOCK and not path.match(TEMPORARY)


def _is_sweep(path: Path) -> bool:
    return (path / "study.yaml").is_file()


def create_run(out: Path | None, name: str, folders: Sequence[str] = ("checkpoints", "plots")) -> RunDirectory:
    """Make `out`, or `runs/<name>-<k>` with the first free k, with `folders` in it. Raises RunError where `out` is not
    empty."""
    if out is None:
        out = _first_free(Path("runs"), re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "run")
    refuse_occupied(out)
    run = RunDirectory(out)
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        for folder in folders:
            make_folder(out / folder)
    return run


def _first_free(parent: Path, name: str) -> Path:
    """The first of these folders that does not exist; it is made at once, so that no other process takes it."""
    with explained(parent):
        parent.mkdir(parents=True, exist_ok=True)
        for k in range(1, 1_000_000):
            with suppress(FileExistsError):
                (parent / f"{name}-{k}").mkdir()
                return parent / f"{name}-{k}"
    raise RunError(str(parent), f"a million runs named {name}", "a free number", "--out with another name")


def path_of_run(run: RunPath) -> Path:
    """The path of a run directory or a checkpoint. Raises RunError for any other object."""
    try:
        return Path(run)
    except TypeError:
        expected = "the path of a run or a checkpoint, or the Run that striate.train returned"
        raise RunError("run", type_of(run), expected, 'give its path: "runs/NAME"') from None


def open_run(path: Path) -> RunDirectory:
    """The run at `path` (its directory, or a checkpoint inside it). Raises RunError where there is none."""
    with explained(path):
        if path.parent.name == "checkpoints" and not path.is_dir() and is_there(path):
            path = path.parent.parent
        run = RunDirectory(path)
        found, sweep = is_there(run.config), _is_sweep(path)
        seen_from = "" if path.is_absolute() else f", seen from {Path.cwd()}"
    if not found and sweep:
        best = path / "best"
        remedy = f"give that run: {pasted(best)}" if best.is_dir() else f"striate sweep --resume {pasted(path)}"
        raise RunError(str(path), "a sweep, whose network is in its run best/", "a run directory", remedy)
    if not found and (kind := _network_alone(path)):
        own = path.parent.parent if path.parent.name == "exports" else None
        known = own is not None and is_there(RunDirectory(own).config)
        remedy = f"give its run: {pasted(own)}" if known else "give the run directory that it was made from"
        got = f"{kind} with only a network, without the data, splits and calibration of its run"
        raise RunError(str(path), got, "a run directory made by striate train", remedy)
    if not found and (error := without_weights(path)):
        raise error
    if not found:
        got = "a folder without config.yaml" if path.is_dir() else f"no such folder{seen_from}"
        if is_there(run.best):
            remedy = f"restore config.yaml; or predict with the network alone: striate predict {pasted(run.best)} PATH"
            raise RunError(str(path), f"{got}, which contains a network", "a complete run directory", remedy)
        nearby = [str(p.parent) for p in Path("runs").glob("*/config.yaml")]
        nearby.sort(key=lambda name: (-SequenceMatcher(None, path.name, Path(name).name).ratio(), name))
        remedy = (
            f"one of: {listed(list(map(pasted, nearby)), 5)}" if nearby else "striate train mnist5k --out runs/first"
        )
        raise RunError(str(path), got, "a run directory made by striate train", remedy)
    return run


def without_weights(folder: Path) -> RunError | None:
    """The error for a folder of `striate export --format hub` whose weights are missing; None for any other folder."""
    if not is_there(folder / "network.pt2") or is_there(folder / "model.safetensors"):
        return None
    remedy = "put model.safetensors there; or striate export RUN --format hub writes the folder again"
    expected = "a complete folder of striate export --format hub"
    return RunError(str(folder), "no model.safetensors, which contains the weights", expected, remedy)


def _network_alone(path: Path) -> str:
    """`a folder` or `a file`, where `path` holds a network without a run; else empty."""
    if path.is_dir():
        return "a folder" if any(path.glob("*.safetensors")) else ""
    return "a file" if path.suffix in _NETWORKS and path.is_file() else ""


def final_command(run: Path) -> str:
    """The command that trains one network like the folds of the cross-validation at `run`."""
    return f"striate train --config {pasted(run / 'config.yaml')} --cv null --out {pasted(f'{run}-final')}"


def further_command(run: Path, epochs: object = None) -> str:
    """The command that trains the network of the finished run further, for `epochs`, or one."""
    return f"striate train --from {pasted(run)} --epochs {epochs or 1}"


def refuse_unexpected_files(path: Path) -> None:
    """Raise RunError where a file or folder of the run, cross-validation or sweep at `path` is a link, a pipe or
    anything else that striate has not made: before training, rather than when the file is written."""
    files = [
        getattr(RunDirectory(path), name) for name, kind in vars(RunDirectory).items() if isinstance(kind, property)
    ]
    for place in (*files, *(path / name for name in sorted(FOLDERS))):
        with suppress(FileNotFoundError), folder_of(place) as folder:
            require_kind(place, folder.status(place.name), folder=place.name in FOLDERS)


def read_plan_summary(run: RunDirectory) -> dict[str, Any]:
    """The summary of plan.json for metrics.json: `speedup` over plain fp32, and its `source`, `measured` or `kept` from
    an earlier run. Empty where nothing was measured, or the file is damaged."""
    plan = read_optional_json(run.plan)
    names = ("speedup", "source")
    return {name: plan[name] for name in names} if isinstance(plan, dict) and plan.keys() >= set(names) else {}


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV with Unix line ends."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV of rows with their keys as header; a row that lacks one has an empty cell. Empty where there are no rows."""
    header = list(dict.fromkeys(key for row in rows for key in row))
    return csv_text(header, [[row.get(key) for key in header] for row in rows]) if rows else ""


def append_row(path: Path, row: Mapping[str, Any], rows: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
    """Append a row to the CSV in `path`. Write all `rows`, the last of which it is, where the file is missing, empty,
    or lacks a column."""
    header = _header(path)
    if row.keys() <= set(header):
        append_text(path, csv_text(header, [[row.get(key) for key in header]]).split("\n", 1)[1])
    else:
        write_text(path, csv_of(rows()))


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return next(csv.reader(file), [])
    except FileNotFoundError:
        return []


_CHOSEN = " val"  # after a digest in seen.txt: the network was chosen, but not trained, on this sample


def seen_text(learned: Iterable[str], chosen: Iterable[str]) -> str:
    """The text of seen.txt: one line per sample, with the digests of the samples that the weights were trained on
    (`learned`) first."""
    return "".join([f"{digest}\n" for digest in learned] + [f"{digest}{_CHOSEN}\n" for digest in chosen])


def read_seen(run: RunDirectory) -> dict[str, str]:
    """The digests of the samples that the run was trained and chosen on, each with its split, `train` or `val`; empty
    for a run of an earlier version, without the file. Raises RunError where the file has changed."""
    lines = sorted(_seen_lines(run), key=lambda line: not line.endswith(_CHOSEN))  # of both splits: train
    return {line.removesuffix(_CHOSEN): "val" if line.endswith(_CHOSEN) else "train" for line in lines}


def read_learned(run: RunDirectory) -> frozenset[str]:
    """The digests of `read_seen` that the weights were trained on."""
    return frozenset(digest for digest, split in read_seen(run).items() if split == "train")


def _seen_lines(run: RunDirectory) -> list[str]:
    return (read_verified(run.seen) or b"").decode().splitlines()


def read_metrics(run: RunDirectory) -> dict[str, Any]:
    """metrics.json. Raises RunError where the run is not complete."""
    try:
        metrics: dict[str, Any] = json.loads(read_verified(run.metrics_json) or b"")
        if not isinstance(metrics, dict) or not {"train", "cv", "study"} & metrics.keys():
            raise ValueError
    except RunError:
        raise
    except (OSError, ValueError, RecursionError):
        there = is_there(run.metrics_json)
        raise RunError(
            str(run.metrics_json),
            "no complete metrics.json",
            "a finished run",
            f"{'remove it, then: ' if there else ''}striate train --resume {pasted(run.path)}",
        ) from None
    return metrics
