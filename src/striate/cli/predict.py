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
    from striate.api.predicting import FileAnswer
    from striate.training.trained import Prediction, Trained

    Writer = Callable[[str, Prediction], dict[str, Any]]

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
        prediction for each sample.
    masks
        For a segmentation: a folder for the predicted masks, as PNGs of the size of each file whose pixels have the
        values of the training masks; for instances, the number of their object. Created if need be; nothing in it is
        overwritten.
    draw
        A folder for pictures of the images with their predictions: boxes and masks are drawn over the image, other
        predictions are written below it. Created if need be; nothing in it is overwritten.
    out
        For embeddings: an .npz with the arrays path and embedding of all files; nothing is overwritten.
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
    from striate.api import answer_files, load
    from striate.api.networks import note_without_labels, with_rejection_of, with_rule_of
    from striate.cli.output import print_json, print_note, print_text
    from striate.data.media.every_medium import medium_of
    from striate.errors import one_line

    trained = load(run, calibrated=True) if calibrated else load(run)
    trained = trained if views is None else trained.with_views(views)
    trained = with_rule_of(run, trained, cost, threshold)
    trained = with_rejection_of(run, trained, reject)
    if rule := trained.task.decision_text:
        print_note(f"predicted class: {rule}")
    if note := note_without_labels(run):
        print_note(note)
    if out is not None:
        _refuse_vectors(trained, out)
    write_masks, write_drawn = _mask_writer(trained, masks), _drawer(trained, draw)
    predictions = answer_files(trained, [path, *paths], plan=plan, tile=tile, every=every)
    if tile is not None and (everywhere := trained.reach.everywhere):
        print_note(
            f"masks of tiles differ from those of whole pictures: the layer {everywhere[0]} sees all of its input"
        )
    if said := predictions.plan.line():
        print_note(said)
    unreadable, vectors = 0, dict[str, Any]()
    with _progress(len(predictions)) as advance, closing(iter(predictions)) as computed:
        for predicted in computed:
            line = _line(predicted, write_masks, write_drawn)
            if "error" in line:
                unreadable += 1
                print_note(f"unreadable: {line['path']}: {line['error']}")
            elif out is not None and predicted.prediction is not None:
                vectors[predicted.path] = predicted.prediction.decoded.numpy()
            if json:
                print_json(line, indent=None)
            elif "error" not in line and out is None:
                print_text(one_line(f"{line['path']}{_span(line)}  {trained.task.line(line)}"))
            advance()
    if out is not None:
        _write_vectors(out, vectors)
    if ignored := predictions.ignored:
        many = medium_of(trained.preparation.kind).many
        print_note(
            f"{ignored:,} other {'file' if ignored == 1 else 'files'} ignored: their suffixes are not those of {many}"
        )
    if unreadable:
        print_note(f"{unreadable:,} of {several(len(predictions), 'file')} could not be read")
    return 1 if unreadable else 0


def _refuse_vectors(trained: Trained, out: Path) -> None:
    """Raise UsageError for predictions that are not vectors, and for a file that is there already."""
    from striate.errors import UsageError, pasted

    if not trained.task.gives_vector:
        got = f"a run of the task {trained.task.name}"
        raise UsageError("--out", got, "a run of embeddings: --task embed", "leave out --out, and give --json")
    if out.exists() or out.suffix != ".npz":
        got, other = (f"{out}, which exists" if out.exists() else str(out)), out.with_name(f"{out.stem}-new.npz")
        raise UsageError("--out", got, "a new file that ends in .npz", f"--out {pasted(other)}")


def _write_vectors(out: Path, vectors: dict[str, Any]) -> None:
    import numpy as np

    from striate.cli.output import print_note
    from striate.runs.files import write_atomic

    embedding = np.stack(list(vectors.values())) if vectors else np.empty((0, 0), np.float32)
    arrays = {"path": np.array(list(vectors), str), "embedding": embedding}
    write_atomic(out, lambda file: np.savez(file, allow_pickle=False, **arrays))
    print_note(f"written: {out}, {several(len(vectors), 'embedding')}")


def _line(predicted: FileAnswer, *writers: Writer) -> dict[str, Any]:
    if predicted.prediction is None:
        return {"path": predicted.path, "error": predicted.error}
    span = {} if predicted.span is None else dict(zip(("start", "end"), predicted.span, strict=True))
    line = {"path": predicted.path, **span, **predicted.prediction.fields}
    for write in writers:
        line |= write(predicted.path, predicted.prediction)
    return line


def _span(line: dict[str, Any]) -> str:
    return f"  {line['start']:.2f}–{line['end']:.2f} s" if "start" in line else ""


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal's stderr, where the predictions themselves go elsewhere; to be called once a file."""
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


def _mask_writer(trained: Trained, folder: Path | None) -> Writer:
    """A function that writes what of a prediction is a file of its own into `folder` and gives its path as a field;
    nothing without a folder."""
    if folder is None:
        return lambda *_: {}
    from striate.runs.files import explained

    task = trained.task
    if not task.writes_files:
        raise task.no_files()
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return lambda path, prediction: task.write_prediction(folder, path, prediction.decoded, prediction.placed)


def _drawer(trained: Trained, folder: Path | None) -> Writer:
    """A function that draws a prediction over its image, or in words below it, writes that into `folder` and gives its
    path as a field; nothing without a folder. Raises UsageError for embeddings and for what is no picture."""
    if folder is None:
        return lambda *_: {}
    from striate.data.media.every_medium import medium_of
    from striate.errors import UsageError
    from striate.runs.files import explained
    from striate.visualize.drawn_file import write_drawn

    medium = medium_of(trained.preparation.kind)
    if not trained.task.draws and (trained.task.gives_vector or not medium.pictures):
        got = f"a run of the task {trained.task.name} for {medium.many}"
        raise UsageError("--draw", got, "predictions for pictures, other than embeddings", "leave out --draw")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return lambda path, prediction: {"drawn": write_drawn(folder, path, trained.drawn(path, prediction))}
