"""How the predictions of a trained network hold when its images are changed."""

from __future__ import annotations

from pathlib import Path

from striate.api.networks import load
from striate.api.news import Announce
from striate.api.training import Run
from striate.errors import UsageError
from striate.evaluation.robustness.measure import MOST, measure_robustness
from striate.evaluation.robustness.record import Robustness
from striate.inference.plan import Asked
from striate.machine.allocator import allocator_policy, usual_policy
from striate.runs.directory import open_run
from striate.runs.files import explained, write_atomic, write_json
from striate.training.config_file import config_from_yaml
from striate.training.prepare import read_data

_DPI = 110


def robustness(
    run: str | Path | Run,
    *,
    split: str = "test",
    samples: int = MOST,
    seed: int = 0,
    plan: Asked = "auto",
    announce: Announce | None = None,
) -> Robustness:
    """The headline metric of a run's network (accuracy, mean IoU, …) against shift, rotation, scale, occlusion,
    deformation, viewpoint, clutter, illumination, noise, blur and JPEG, each at several strengths, with intervals.
    Where targets move with their image, only the changes after which it is known what is right.

    Of the test split, or `val`; of at most `samples` images, evenly spaced. Images are changed as bytes, by a function
    of (seed, kind, sample id). `plan` as in `evaluate`. Nothing is written. Raises UsageError; DataError for data that
    are no images, or have changed; RunError where there is no run.
    """
    if split not in ("test", "val"):
        raise UsageError("split", repr(split), "test or val", 'split="test"')
    if samples < 1:
        raise UsageError("samples", str(samples), "1 or more", "samples=1000")
    opened = open_run(run.path if isinstance(run, Run) else Path(run))
    trained, data = load(opened.path), read_data(config_from_yaml(opened.config), announce)[1]
    with allocator_policy(usual_policy()):
        return measure_robustness(
            trained, data, split, samples=samples, seed=seed, plan=plan, progress=announce or (lambda _: None)
        )


def write_robustness(run: str | Path, found: Robustness) -> tuple[Path, Path]:
    """Write `robustness.json` and `plots/robustness.png` into the run; their paths. Raises RunError."""
    from striate.visualize.canvas import of_split, save_figure
    from striate.visualize.robustness import robustness_figure

    opened = open_run(Path(run))
    picture = opened.plots / "robustness.png"
    figure = robustness_figure(
        found.to_json(),
        title=of_split(found.data, found.split, found.n),
        name="right" if found.of_hits else found.metric.name,
        share=found.metric.is_share,
    )
    with explained(opened.plots):
        opened.plots.mkdir(exist_ok=True)

    def draw(path: Path) -> None:
        save_figure(figure, path, _DPI)

    write_atomic(picture, draw)
    write_json(opened.robustness, found.to_json())
    return opened.robustness, picture
