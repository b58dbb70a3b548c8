"""`striate learning-curve`, and what `striate eval RUN --learning-curve` shares with it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from striate.cli.fields import NOT_ONE_TRAINING, Data, Flag, takes_fields

_MOST_SEEDS = 100


@takes_fields(without=("model.weights", *NOT_ONE_TRAINING))
def learning_curve(
    data: Data = None,
    /,
    *,
    fields: dict[str, Any],
    config: Path | None = None,
    weights: str | None = None,
    counts: str | None = None,
    seeds: int | None = None,
    out: Path | None = None,
    json: Flag = False,
) -> int:
    """Train a network on all and on parts of the training samples: test metric by their number.

    With --weights each training is done twice, from random and from pretrained weights, and the difference is
    printed with its 95 % interval. For an existing run: striate eval RUN --learning-curve.

    Parameters
    ----------
    config
        A config.yaml, for example of an earlier run; other options go on top of it.
    weights
        A run, or other pretrained weights as `striate train --weights` takes them.
    counts
        Numbers of training samples, 100,1000,60000, instead of 1/8, 1/4, 1/2 and all.
    seeds
        Number of seeds, counted up from --seed. Each seed draws other samples and another initialization.
    out
        The run directory, which gets learning-curve.json and plots/learning-curve.png. Default: a new one below runs.
    json
        Print one JSON document on stdout, everything else on stderr.
    """
    from striate.api import learning_curve as measure
    from striate.api import train, write_learning_curve
    from striate.api.studies import refuse_learning_curve
    from striate.cli.output import measure_and_write, print_note, results_only

    sizes = read_counts(counts)
    read_seeds(seeds)  # before minutes are spent
    with results_only(json):
        refuse_learning_curve(data, weights=weights, counts=sizes, config=config, set=fields)
        run = train(data, config=config, set=fields, out=out)
    print_note(f"run: {run.path}")
    found = partial(measure, weights=weights, counts=sizes, seeds=read_seeds(seeds, run.path))
    return measure_and_write(run.path, found, write_learning_curve, json=json)


def read_counts(text: str | None) -> tuple[int, ...] | None:
    """Read the numbers of training samples. Raises UsageError."""
    if text is None:
        return None
    parts = [part.strip().replace("_", "") for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
        from striate.errors import UsageError

        expected = "numbers of training samples, separated by commas"
        raise UsageError("--counts", repr(text[:60]), expected, "--counts 100,1000,10000")
    return tuple(int(part) for part in parts)


def read_seeds(count: int | None, run: Path | None = None) -> tuple[int, ...] | None:
    """`count` seeds, counted up from that of the run; None for the default. Raises UsageError."""
    if count is None:
        return None
    if not 1 <= count <= _MOST_SEEDS:
        from striate.errors import UsageError

        raise UsageError("--seeds", str(count), f"1 to {_MOST_SEEDS}", "--seeds 3")
    if run is None:
        return tuple(range(count))
    from striate.runs.directory import open_run
    from striate.training.config_file import config_from_yaml

    first = config_from_yaml(open_run(run).config).seed
    return tuple((first + k) % 2**32 for k in range(count))
