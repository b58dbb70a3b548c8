"""The task of regression: numbers for each sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from striate.data.dataset import Dataset, SampleFacts
from striate.data.normalize import divisor
from striate.runs.predictions import Predictions as SavedPredictions
from striate.statistics.calibration import Temperature
from striate.tasks.assessment import Assessment, SplitMetrics
from striate.tasks.baseline import Method
from striate.tasks.config import TaskConfig
from striate.tasks.evaluation import Evaluation
from striate.tasks.headline import Rows, interval_of
from striate.tasks.outputs import constants
from striate.tasks.regress.metrics import METRICS, RegressionMetrics, r_squared
from striate.tasks.task import Diagnosed, Explained, Task
from striate.visualize.page_parts import Picture, Section, Table
from striate.wording import formatted, number, several

_LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "squared": functional.mse_loss,
    "absolute": functional.l1_loss,
    "huber": functional.huber_loss,
}


def _usual_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean squared error of outputs (N, T); targets may be (N,) where T is 1."""
    same_size = outputs.numel() == targets.numel()
    return functional.mse_loss(outputs, targets.reshape(outputs.shape) if same_size else targets)


@dataclass(frozen=True)
class Regress(Task):
    """Regression of T numbers: outputs (N, T) are standardized, targets and predictions (N, T) are in the units of the
    data.

    The network learns `(t − mean) / std`, so that one learning rate fits targets in dollars and in millimeters. The
    loss is that of the standardized numbers.
    """

    target_names: tuple[str, ...]
    """Names of the T numbers."""
    mean: tuple[float, ...]
    """Mean of each number over the training targets."""
    std: tuple[float, ...]
    """Standard deviation of each number over the training targets."""
    loss_name: str = "squared"
    """`squared`, `absolute` or `huber`."""

    name: ClassVar[str] = "regress"
    diagnosed_as: ClassVar[Diagnosed | None] = Diagnosed("numbers", _usual_loss)
    annotation: ClassVar[str] = "number"
    metrics = METRICS
    losses: ClassVar[tuple[str, ...]] = ("squared", "absolute", "huber")
    survives_moves: ClassVar[bool] = False
    exports: ClassVar[tuple[str, ...]] = ("value",)

    @classmethod
    def make(cls, data: Dataset, config: TaskConfig, loss: str) -> Self:
        """The task for the numbers of the data, standardized by the training split."""
        del config
        targets = data.splits["train"].targets
        mean, std = targets.double().mean(0), targets.double().std(0, correction=0)
        return cls(data.target_names, tuple(mean.tolist()), tuple(divisor(mean, std).tolist()), loss)

    @property
    def outputs(self) -> int:
        """One output for each number."""
        return len(self.target_names)

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum over samples of the mean over numbers, in standardized units."""
        mean, std = self._scale(targets.device)
        total = _LOSSES[self.loss_name](outputs.float(), (targets - mean) / std, reduction="sum")
        return total if self.outputs == 1 else total / self.outputs

    def _scale(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        return constants(self.mean, device), constants(self.std, device)

    def tally(self, outputs: torch.Tensor, targets: torch.Tensor, loss_sum: torch.Tensor | None = None) -> torch.Tensor:
        """(4,) samples, summed loss, summed squared and absolute errors in the units of the data."""
        error = (self.decode(outputs) - targets).double()
        tally = torch.full((4,), float(len(targets)), dtype=torch.float64, device=outputs.device)
        tally[1] = self.loss_sum(outputs, targets) if loss_sum is None else loss_sum
        tally[2] = error.square().mean(1).sum()
        tally[3] = error.abs().mean(1).sum()
        return tally

    def summarize(self, tally: torch.Tensor) -> dict[str, float]:
        """`loss`, `rmse` and `mae`."""
        count, total, squared, absolute = tally.tolist()
        return {"loss": total / count, "rmse": (squared / count) ** 0.5, "mae": absolute / count}

    def score(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The lower loss."""
        return (-metrics["loss"],)

    @property
    def scored_by_loss(self) -> bool:
        """True: see `score`."""
        return True

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, T) float32 in the units of the data."""
        mean, std = self._scale(outputs.device)
        return outputs.float() * std + mean

    def exported_facts(self) -> dict[str, Any]:
        """The names of the numbers."""
        return {"names": list(self.target_names)}

    def disparity(self, right: NDArray[Any], found: NDArray[Any]) -> tuple[float, bool]:
        """The largest difference of standardized numbers."""
        difference = float((np.abs(right - found) / np.array(self.std)).max())
        return difference, difference < 1e-3

    def measure(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """`rmse` and `mae` in the units of the data, over all samples and numbers together, and `r2`, averaged over
        the numbers that vary (1 is perfect, 0 is the result of always predicting the mean; None where no number varies,
        as with one sample)."""
        predicted, truth = decoded.double().cpu().numpy(), targets.double().cpu().numpy()
        errors = predicted - truth
        return {
            "rmse": float((errors**2).mean()) ** 0.5,
            "mae": float(np.abs(errors).mean()),
            "r2": r_squared(truth, predicted),
        }

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`value`, or `values` by name where there are several."""
        values = [float(v) for v in decoded.tolist()]
        if len(values) == 1:
            return {"value": values[0]}
        return {"values": dict(zip(self.target_names, values, strict=True))}

    def line(self, fields: Mapping[str, Any]) -> str:
        """The numbers with their names."""
        values = fields.get("values") or {"": fields.get("value")}
        return "  ".join(f"{name} {number(value)}".strip() for name, value in values.items())

    @classmethod
    def rows(cls, decoded: NDArray[Any], targets: NDArray[Any], classes: int = 0) -> Rows:
        """(N,) squared error of each sample, the mean over its numbers."""
        del classes
        truth = np.asarray(targets, np.float64).reshape(len(targets), -1)
        errors: Rows = ((np.asarray(decoded, np.float64).reshape(truth.shape) - truth) ** 2).mean(1)
        return errors

    @classmethod
    def headline_of(cls, total: Rows, n: int) -> float:
        """The root mean squared error."""
        return float(np.sqrt(total / n))

    def interval(self, decoded: Any, targets: Any, groups: Sequence[str] = ()) -> dict[str, list[float] | None]:
        """`rmse_interval` by bootstrap over samples, or groups; None for fewer than 20."""
        from striate.tasks.regress.assess import root_mean

        ends = interval_of(root_mean(self.rows(decoded, targets), groups))
        return {"rmse_interval": ends}

    def assess(
        self, evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None, names: Sequence[str]
    ) -> SplitMetrics:
        """Each number, the largest errors, and slices."""
        from striate.tasks.regress.assess import assess_numbers  # scikit-learn loads when training is over

        del temperature
        return assess_numbers(evaluation, facts, self.headline_metric(), names)

    @classmethod
    def accepts_saved(cls, saved: SavedPredictions) -> bool:
        """Whether predictions are as many numbers as targets, without classes."""
        numbers = (
            saved.predicted is None and saved.predictions.ndim == 2 and saved.predictions.shape == saved.targets.shape
        )
        return numbers and not saved.classes

    def baselines(self, data: Dataset) -> tuple[Method, ...]:
        """The mean; ridge regression; for tables gradient boosting."""
        from striate.tasks.regress.baselines import regress_methods  # scikit-learn loads only where it is needed

        return regress_methods(data)

    def headline_text(self, evaluation: Evaluation) -> tuple[str, str]:
        """The RMSE, and that of always predicting the mean."""
        metrics, n = evaluation.metrics, evaluation.n
        of = f"{n:,} {evaluation.split} {'sample' if n == 1 else 'samples'} of {evaluation.data}"
        deviation = float(np.asarray(evaluation.targets, dtype=np.float64).reshape(n, -1).std(0).mean())
        r2 = "–" if metrics["r2"] is None else formatted(metrics["r2"], ".3f")
        return f"RMSE {number(metrics['rmse'])}", (
            f"root mean squared error on the {of}{evaluation.span_of('rmse', number)}, in the units of the data. "
            "On average predictions are "
            f"{number(metrics['mae'])} off (mean absolute error); R² {r2}. "
            f"Always predicting the mean of these samples would have an RMSE of {number(deviation)}."
        )

    def pictures(
        self, folder: Path, evaluation: Evaluation, images: Any | None, *, names: Sequence[str] = ()
    ) -> tuple[Picture, ...]:
        """Predicted against true values; for images, the worst, typical and best samples."""
        from striate.tasks.regress.show import sample_pictures, scatter_picture  # drawing loads only where it is needed
        from striate.visualize.canvas import of_split

        title = of_split(evaluation.data, evaluation.split, evaluation.n)
        scatter = scatter_picture(folder, evaluation, title, self.target_names)
        return (scatter, *(() if images is None else sample_pictures(folder, evaluation, images, names)))

    def sections(self, assessment: Assessment, figures: SplitMetrics, of: str) -> tuple[Section, ...]:
        """Each number."""
        from striate.tasks.regress.show import numbers_section

        del assessment
        assert isinstance(figures, RegressionMetrics)
        return (numbers_section(figures, of),)

    def tables(
        self, evaluation: Evaluation, figures: SplitMetrics | None, names: Sequence[str] = ()
    ) -> dict[str, Table | None]:
        """True and predicted numbers."""
        from striate.tasks.regress.show import prediction_table

        del figures
        return {"scatter": prediction_table(evaluation, self.target_names, names)}

    def columns(self, names: Sequence[str]) -> list[str]:
        """A pair of columns for each number."""
        if len(names) == 1:
            return ["truth", "prediction"]
        return [f"{what} {name}" for name in names for what in ("truth", "prediction")]

    def cells(self, truth: Any, decoded: Any) -> list[Any]:
        """One sample's row."""
        return [f"{value:.7g}" for pair in zip(truth.ravel(), decoded.ravel(), strict=True) for value in pair]

    def pooled(
        self, folder: Path, truth: Any, decoded: Any, title: str, of: str, names: Sequence[str]
    ) -> tuple[Picture | None, Table | None]:
        """Predicted against true."""
        from striate.tasks.regress.show import pooled_scatter

        return pooled_scatter(folder, truth, decoded, title, of, names), None

    def standardized(self, targets: torch.Tensor) -> torch.Tensor:
        """(t − mean) / std."""
        mean, std = self._scale(targets.device)
        return (targets - mean) / std

    def unstandardized(self, targets: torch.Tensor) -> torch.Tensor:
        """t · std + mean."""
        mean, std = self._scale(targets.device)
        return targets * std + mean

    def explained(self, decoded: torch.Tensor) -> Explained:
        """The first number."""
        del decoded
        notes = [f"Of {several(self.outputs, 'number')}, the first one is explained."] if self.outputs > 1 else []
        notes.append("Deletion is measured in standard deviations of the training targets.")
        return Explained(lambda outputs: outputs, 0, "number", notes=tuple(notes))

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "target_names": list(self.target_names),
            "mean": list(self.mean),
            "std": list(self.std),
            "loss_name": self.loss_name,
        }
