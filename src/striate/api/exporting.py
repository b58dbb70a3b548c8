"""Export trained networks to files that other programs run."""

from __future__ import annotations

from pathlib import Path

from striate.api.announcing import Announce
from striate.api.keywords import known_keywords
from striate.api.networks import load
from striate.api.training import Run, path_of, refuse_other_data
from striate.data.sources.list_source import list_source
from striate.data.sources.objects import Data, given_data
from striate.errors import ModelError, UsageError, pasted
from striate.exporting.export import Exported, export_trained
from striate.exporting.exported_player import export_player
from striate.exporting.formats import format_named
from striate.runs.directory import open_run
from striate.runs.plain_files import is_there
from striate.tasks.registry import annotation_for
from striate.training.config_file import config_from_yaml
from striate.training.prepare import read_data
from striate.training.rewards.player import load_player, plays
from striate.training.trained import Trained


@known_keywords
def export(
    run: str | Path | Run | Trained,
    format: str | None = None,
    *,
    data: Data = None,
    int8: bool = False,
    out: str | Path | None = None,
    announce: Announce | None = None,
) -> Exported:
    """Write the network of a run as a file that other programs run, with preparation and predictions inside; at `out`
    or in the folder `exports` of the run. `format`: onnx, openvino, torch, hub; None: by the suffix of `out`, else
    onnx. `data`: the run's, if they were given in Python. `int8`: quantize to 8-bit integers, if that is faster here
    than anything else and predicts as well.

    The file is run here on samples of the run's data, at several sizes and in batches of several, and its predictions
    are compared with those of the run. Raises ModelError where they differ, and writes nothing then; UsageError where a
    package is missing, the file exists, or the task does not support the format; DataError where the data are gone.
    """
    exported = try_export(run, format, data=data, int8=int8, out=out, announce=announce)
    if exported.path is None:
        got = f"{exported.refused} ({exported.parity.text()})"
        expected = "the predictions of the run, up to rounding" + (", at a higher speed" if int8 else "")
        raise ModelError(f"export as {exported.format}", got, expected, "use another format, or striate predict")
    return exported


def try_export(
    run: str | Path | Run | Trained,
    format: str | None = None,
    *,
    data: Data = None,
    int8: bool = False,
    out: str | Path | None = None,
    announce: Announce | None = None,
) -> Exported:
    """`export`, but where predictions differ it returns the reason in `refused` and raises nothing."""
    place = None if out is None else Path(out)
    kind = format_named(format, place)
    kind.require()
    given = path_of(run)
    opened = open_run(given)
    if given.is_file() and is_there(opened.best) and not given.samefile(opened.best):
        got, remedy = (
            f"{given.name}, a checkpoint of another epoch than the best",
            f"striate export {pasted(opened.path)}",
        )
        raise UsageError("RUN", got, "a run, whose best epoch is exported and described", remedy)
    if plays(opened.path):
        return export_player(load_player(opened.path), opened, kind, place, int8=int8, announce=announce)
    trained = run if isinstance(run, Trained) else load(opened.path)
    config = config_from_yaml(opened.config)
    with given_data(data, announce) as source:
        refuse_other_data(source, config, "export", opened.path)
        samples = read_data(config, announce, run=opened)[1]
        read = list_source(config.data, annotation_for(config.task)).read if samples.medium.lasting else None
        return export_trained(trained, samples, opened, kind, place, int8=int8, announce=announce, read=read)
