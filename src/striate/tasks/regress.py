"""Numbers for each sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from striate.data.warp import Warp
from striate.tasks.constants import constants

_LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "squared": functional.mse_loss,
    "absolute": functional.l1_loss,
    "huber": functional.huber_loss,
}


@dataclass(frozen=True)
class Regress:
    """Regression of T numbers; outputs (N, T) standardized, targets and answers (N, T) in the units of the data.

    `mean` and `std` are those of the training targets: the network learns `(t − mean) / std`, so that one
    learning rate fits targets in dollars and in millimeters. The loss is that of the standardized numbers.
    """

    target_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    loss_name: str = "squared"

    name = "regress"
    headline = "rmse"
    higher_is_better = False

    @property
    def outputs(self) -> int:
        """One output a number."""
        return len(self.target_names)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar mean loss over samples and numbers, in standardized units."""
        return self.loss_sum(outputs, targets) / self.weight(targets)

    def weight(self, targets: torch.Tensor) -> float:
        """The number of samples."""
        return float(len(targets))

    def loss_sum(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Scalar sum over samples of the mean over numbers, in standardized units."""
        mean, std = self._scale(targets.device)
        total = _LOSSES[self.loss_name](outputs.float(), (targets - mean) / std, reduction="sum")
        return total if self.outputs == 1 else total / self.outputs

    def _scale(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        return constants(self.mean, device), constants(self.std, device)

    def warp_targets(self, targets: torch.Tensor, warp: Warp) -> torch.Tensor:
        """A number does not move with its image."""
        del warp
        return targets

    def resize_targets(self, targets: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """A number does not change with the resolution of its image."""
        del size
        return targets

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

    def score(self, metrics: dict[str, float]) -> tuple[float, ...]:
        """The lower loss."""
        return (-metrics["loss"],)

    def decode(self, outputs: torch.Tensor) -> torch.Tensor:
        """(N, T) float32 in the units of the data."""
        mean, std = self._scale(outputs.device)
        return outputs.float() * std + mean

    def metrics(self, decoded: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """`rmse` and `mae` in the units of the data, over all samples and numbers together, and `r2`, averaged over
        the numbers that vary (1 is perfect, 0 what always naming the mean reaches; None where none varies, as of one
        sample)."""
        from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

        predicted, truth = decoded.double().cpu().numpy(), targets.double().cpu().numpy()
        varied = truth.min(0) < truth.max(0)
        return {
            "rmse": float(mean_squared_error(truth, predicted)) ** 0.5,
            "mae": float(mean_absolute_error(truth, predicted)),
            "r2": float(r2_score(truth[:, varied], predicted[:, varied])) if varied.any() else None,
        }

    def describe(self, decoded: torch.Tensor) -> dict[str, Any]:
        """`value`, or `values` by name where there are several."""
        values = [float(v) for v in decoded.tolist()]
        if len(values) == 1:
            return {"value": values[0]}
        return {"values": dict(zip(self.target_names, values, strict=True))}

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "name": self.name,
            "target_names": list(self.target_names),
            "mean": list(self.mean),
            "std": list(self.std),
            "loss_name": self.loss_name,
        }
