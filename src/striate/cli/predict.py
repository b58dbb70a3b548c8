"""`striate predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from striate.api.answering import FileAnswer
    from striate.training.trained import Prediction, Trained

    Keep = Callable[[str, Prediction], dict[str, Any]]

_BAR = 100  # files, before a bar is worth drawing


def predict(
    run: Path,
    path: Path,
    /,
    *paths: Path,
    masks: Path | None = None,
    calibrated: Annotated[bool, Parameter(negative=())] = False,
    plan: Literal["auto", "plain"] = "auto",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Answer for images: files and folders.

    A file that cannot be read is named on stderr and counted; the others are answered. Exit code 1 if any was
    unreadable.

    Parameters
    ----------
    run
        A run directory, or one checkpoint file.
    path
        Images, and folders that are searched for images.
    masks
        For a segmentation: a folder for the predicted masks, as PNGs of the input's size whose pixels have the values
        of the training masks. Created if need be; nothing in it is overwritten.
    calibrated
        Probabilities as they are with the temperature that was fitted on validation; answers stay the same.
    plan
        `auto`: thousands of images are answered in the fastest way whose answers are those of plain fp32, and it says
        which; `plain` takes plain fp32.
    json
        Print a JSON line for each file: path, label, probability and the five most probable; or path and error.
    """
    from striate.api import answer_files, load
    from striate.cli.output import print_json, print_note, print_text
    from striate.errors import one_line

    trained = load(run, calibrated=True) if calibrated else load(run)
    keep = _mask_writer(trained, masks)
    answers = answer_files(trained, [path, *paths], plan=plan)
    if said := answers.plan.line():
        print_note(said)
    unreadable = 0
    with _progress(len(answers)) as advance, closing(iter(answers)) as computed:
        for answer in computed:
            line = _line(answer, keep)
            if "error" in line:
                unreadable += 1
                print_note(f"unreadable: {line['path']}: {line['error']}")
            if json:
                print_json(line, indent=None)
            elif "error" not in line:
                print_text(one_line(f"{line['path']}  {trained.task.line(line)}"))
            advance()
    if ignored := answers.ignored:
        print_note(f"{ignored:,} other {'file' if ignored == 1 else 'files'} ignored: not images by their suffix")
    if unreadable:
        print_note(f"{unreadable:,} of {len(answers):,} files could not be read")
    return 1 if unreadable else 0


def _line(answer: FileAnswer, keep: Keep) -> dict[str, Any]:
    if answer.prediction is None:
        return {"path": answer.path, "error": answer.error}
    return {"path": answer.path, **answer.prediction.fields, **keep(answer.path, answer.prediction)}


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal's stderr, where the answers themselves go elsewhere; to be called once a file."""
    import sys

    from striate.cli.output import stderr

    console = stderr()
    if not console.is_terminal or sys.stdout.isatty() or total < _BAR:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("answered", total=total)
        yield lambda: progress.advance(task)


def _mask_writer(trained: Trained, folder: Path | None) -> Keep:
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
    return lambda path, prediction: task.write_prediction(folder, path, prediction.decoded)
