"""`striate predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from striate.wording import several

if TYPE_CHECKING:
    from striate.api.predicted_lines import Predicting
    from striate.api.predicting import FilePredictions
    from striate.inference.plan import PlanMode
    from striate.training.trained import Trained

_BAR = 100  # files, before a bar is worth drawing


def predict(
    run: Path,
    path: str,
    /,
    *paths: str,
    masks: Path | None = None,
    tile: Annotated[int | None, Parameter(validator=Number(gte=32, lte=16384))] = None,
    every: Annotated[float | None, Parameter(validator=Number(gte=0.01, lte=3600))] = None,
    draw: Path | None = None,
    out: Path | None = None,
    ray: str | None = None,
    calibrated: Annotated[bool, Parameter(negative=())] = False,
    views: Literal["mirror", "mirrors", "mirror-shift"] | None = None,
    cost: Annotated[list[str] | None, Parameter(negative=())] = None,
    threshold: Annotated[list[str] | None, Parameter(negative=())] = None,
    reject: Annotated[float | None, Parameter(validator=Number(gt=0, lt=1))] = None,
    plan: Literal["auto", "plain"] = "auto",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Predict for image files, folders of images, and samples of named data sets.

    A file that is missing or cannot be read is named on stderr and counted; the others get their predictions. Exit
    code 1 if a file could not be read.

    Parameters
    ----------
    run
        A run directory, one checkpoint file, or what striate export wrote.
    path
        Images, folders that are searched for images, and samples of named data sets: digits#3. Also an .npz with an
        array x, an .npy for a network trained on arrays, a .csv of the features for one trained on a table: a
        prediction for each sample. For a table also the numbers of a row, separated by commas.
    masks
        For a segmentation: a folder for the predicted masks, as PNGs of the size of each file whose pixels have the
        values of the training masks; for instances, the number of their object. Created if need be; nothing in it is
        overwritten.
    draw
        A folder for pictures of the images with their predictions: boxes and masks are drawn over the image, other
        predictions are written below it. Created if need be; nothing in it is overwritten.
    out
        A .parquet with a row for each file, of any number: the fields of --json as columns. It is written in parts: if
        the command is stopped, the same command continues, and files that have a row are not predicted again. Needs
        pip install 'striate[parquet]'. For embeddings also an .npz with the arrays path and embedding of all files;
        nothing is overwritten.
    ray
        With --out FILE.parquet: predict on the Ray cluster at this address; auto: on the one that this machine belongs
        to, or on all cores of this machine. Needs pip install 'striate[ray]'.
    tile
        For a segmentation: predict each picture in square tiles of this many pixels a side, with a margin as wide as
        the receptive field, so that a picture of any size fits into memory and the mask is the same.
    every
        For sounds: predict for windows of a recording of any length; a window begins every this many seconds, and
        each line has its start and end. Default: one window in the middle of the file.
    calibrated
        Calibrated probabilities, with the temperature that was fitted on validation; without --cost and --threshold the
        predicted classes stay the same.
    views
        Test-time augmentation: the mean over each image and its mirror image, over these two and both upside down, or
        over six mirrored and shifted ones.
        Default: what the run was trained for.
    cost
        The cost of missing a class: ill=10, or ill=10,doubtful=3; 1 for the others. The predicted class is the one
        with the largest cost × probability; probabilities stay as they are.
    threshold
        Predict a class if its probability is at least this threshold, otherwise the most probable other class: ill=0.2.
        Without a number: the threshold with the best F1 on the run's validation split.
    reject
        The largest share of wrong predictions, such as 0.05. If no single class meets it, no class is predicted, and
        the reason is given: none of these, or undecided between several classes. For several labels: those that are
        certain, and those that are undecided. Calibrated on the run's validation split; it holds for images like those.
    plan
        `auto`: for thousands of images the fastest backend is chosen whose predictions agree with plain fp32, and named
        on stderr; `plain` takes plain fp32.
    json
        Print a JSON line for each file: path, label, probability and the five most probable; or path and error.
    """
    from striate.api.networks import note_without_labels
    from striate.api.predicted_lines import Predicting, line_of
    from striate.api.predicting import predict_files
    from striate.cli.output import print_note

    rule = tuple(cost or ()), tuple(threshold or ())
    request = Predicting(run, calibrated, views, *rule, reject, masks, draw, tile, every)
    if note := note_without_labels(run):
        print_note(note)
    if ray is not None or (out is not None and out.suffix == ".parquet"):
        return _into_file(request, [path, *paths], _parquet(out), ray, plan, json=json)
    trained = request.load()
    if out is not None:
        _refuse_vectors(trained, out)
    writers = request.writers(trained)
    predictions = predict_files(trained, [path, *paths], plan=plan, tile=tile, every=every)
    _announce(predictions)
    unreadable, vectors = 0, dict[str, Any]()
    with _progress(len(predictions)) as advance, closing(iter(predictions)) as computed:
        for predicted in computed:
            if predicted.prediction is None:
                unreadable += 1
            elif out is not None:
                vectors[predicted.path] = predicted.prediction.decoded.numpy()
            _show(line_of(predicted, writers), trained, json=json, quiet=out is not None)
            advance()
    if out is not None:
        _write_vectors(out, vectors)
    return _close(predictions, unreadable, several(len(predictions), "file"))


def _into_file(request: Predicting, paths: list[str], out: Path, ray: str | None, plan: PlanMode, *, json: bool) -> int:
    """Write all predictions into one Parquet file."""
    from striate.api.predictions_table.write import predictions_file
    from striate.cli.output import print_note

    with predictions_file(request, paths, out, ray=ray, plan=plan) as found:
        if found.before:
            left = several(len(found.predictions), "file is", "files are")
            print_note(f"{out}: {several(found.before, 'row')} from before; {left} left to predict")
        _announce(found.predictions)
        try:
            with _progress(len(found.predictions)) as advance, closing(iter(found)) as computed:
                for lines in computed:
                    for line in lines:
                        _show(line, found.trained, json=json, quiet=True)
                    advance()
        except KeyboardInterrupt:
            print_note(f"{several(found.rows, 'row is', 'rows are')} saved; the same command continues")
            raise
        print_note(f"written: {out}, {several(found.rows, 'row')}")
        return _close(found.predictions, found.unreadable, several(found.rows, "row"))


def _parquet(out: Path | None) -> Path:
    """The Parquet file of `--out`. Raises UsageError for None and other files."""
    from striate.errors import UsageError

    if out is None or out.suffix != ".parquet":
        got = "no --out" if out is None else f"--out {out}"
        raise UsageError("--ray", got, "a file that ends in .parquet", "--out predictions.parquet")
    return out


def _announce(predictions: FilePredictions) -> None:
    """Print how predictions are computed, before the first one."""
    from striate.cli.output import print_note

    trained = predictions.trained
    if rule := trained.task.decision_text:
        print_note(f"predicted: {rule}")
    if predictions.tile is not None and (everywhere := trained.reach.everywhere):
        print_note(
            f"masks of tiles differ from those of whole pictures: the layer {everywhere[0]} sees all of its input"
        )
    if plan := predictions.plan.line():
        print_note(plan)


def _show(line: dict[str, Any], trained: Trained, *, json: bool, quiet: bool) -> None:
    """Print a line as JSON, or, unless `quiet`, as text; a file that could not be read is named on stderr."""
    from striate.cli.output import print_json, print_note, print_text
    from striate.errors import one_line

    if "error" in line:
        print_note(f"unreadable: {line['path']}: {line['error']}")
    if json:
        print_json(line, indent=None)
    elif "error" not in line and not quiet:
        print_text(one_line(f"{line['path']}{_span(line)}  {trained.task.line(line)}"))


def _close(predictions: FilePredictions, unreadable: int, total: str) -> int:
    """Print the number of ignored and of unreadable files; returns the exit code."""
    from striate.cli.output import print_note
    from striate.data.media.every_medium import medium_of

    if ignored := predictions.ignored:
        many = medium_of(predictions.trained.preparation.kind).many
        print_note(
            f"{ignored:,} other {'file' if ignored == 1 else 'files'} ignored: their suffixes are not those of {many}"
        )
    if unreadable:
        print_note(f"{unreadable:,} of {total} could not be read")
    return 1 if unreadable else 0


def _refuse_vectors(trained: Trained, out: Path) -> None:
    """Raise UsageError for predictions that are not vectors, and for a file that exists or is not an .npz."""
    from striate.errors import UsageError, pasted

    if not trained.task.gives_vector:
        got = f"{out}, for a run of the task {trained.task.name}"
        expected = "a file that ends in .parquet; in .npz only for embeddings"
        remedy = f"--out {pasted(out.with_suffix('.parquet'))}; or leave out --out, and give --json"
        raise UsageError("--out", got, expected, remedy)
    if out.exists() or out.suffix != ".npz":
        got, other = (f"{out}, which exists" if out.exists() else str(out)), out.with_name(f"{out.stem}-new.npz")
        raise UsageError("--out", got, "a new file that ends in .npz or .parquet", f"--out {pasted(other)}")


def _write_vectors(out: Path, vectors: dict[str, Any]) -> None:
    import numpy as np

    from striate.cli.output import print_note
    from striate.runs.files import write_atomic

    embedding = np.stack(list(vectors.values())) if vectors else np.empty((0, 0), np.float32)
    arrays = {"path": np.array(list(vectors), str), "embedding": embedding}
    write_atomic(out, lambda file: np.savez(file, allow_pickle=False, **arrays))
    print_note(f"written: {out}, {several(len(vectors), 'embedding')}")


def _span(line: dict[str, Any]) -> str:
    return f"  {line['start']:.2f}–{line['end']:.2f} s" if "start" in line else ""


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal, unless the predictions are printed there too; it is called once for each file."""
    import sys

    from striate.cli.output import stderr

    console = stderr()
    if not console.is_terminal or sys.stdout.isatty() or total < _BAR:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("predicted", total=total)
        yield lambda: progress.advance(task)
