"""Post-training quantization to 8-bit integers, and its effect on accuracy and speed.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR
2018. Convolutions and fully connected layers get a scale for each channel of their weights, and one for their inputs,
calibrated on samples of the training split; resizing, normalization and predictions are not quantized.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.dataset import Dataset
from striate.exporting.export_format import Runner
from striate.exporting.speed import BATCH, as_file_input, median_seconds
from striate.inference.choose import backends_to_try, prepare_backend
from striate.inference.predictor import inference, plain_predictor
from striate.statistics.paired import Difference
from striate.tasks.registry import metric_named
from striate.training.trained import Trained
from striate.wording import number, several

CALIBRATED_ON = 128
"""Number of training samples whose activations calibrate the scales."""
_SPLIT = "val"
_LEAST_SPEEDUP = 1.05
_MOST_LOST = 0.01
"""Share of the headline metric that may be lost if the loss is not significant."""


@dataclass(frozen=True)
class Quantized:
    """What quantization changes, on validation samples."""

    metric: str
    """The headline metric by name."""
    n: int
    """Number of samples."""
    fp32: float
    """The metric in fp32."""
    int8: float
    """The metric in int8."""
    lead: Difference
    """By how much int8 leads."""
    rates: Mapping[str, float]
    """Images a second in batches, of the file."""
    other_rates: Mapping[str, float]
    """Images a second in batches, of everything else that predicts here."""

    @property
    def speedup(self) -> float:
        """Speed relative to the fastest other backend."""
        return max(self.rates.values()) / max(self.other_rates.values())

    @property
    def refused(self) -> str:
        """Why quantization is not a gain; empty where it is."""
        fastest = max(self.other_rates, key=lambda name: self.other_rates[name])
        if self.speedup < _LEAST_SPEEDUP:
            return (
                f"int8 is {self.speedup:.2f} times as fast as {fastest}, which is less than {_LEAST_SPEEDUP:g} times: "
                "no gain"
            )
        worse = self.lead.p_value < 0.05 and self.lead.value < 0
        if worse or self.lead.value < -_MOST_LOST * abs(self.fp32):
            return f"int8 loses too much accuracy: {self.accuracy_text()}"
        return ""

    def accuracy_text(self) -> str:
        """Both metrics and their difference with its interval."""
        metric, ends = metric_named(self.metric), self.lead.interval
        factor, unit = metric.lead
        span = ""
        if ends is not None:
            span = f" ({number(factor * ends.low, 3)} to {number(factor * ends.high, 3)}, {ends.method})"
        return (
            f"{metric.name} {metric.text(self.int8)} in int8, {metric.text(self.fp32)} in fp32, "
            f"difference {number(factor * self.lead.value, 3)}{unit}{span}, {several(self.n, 'validation sample')}"
        )

    def to_json(self) -> dict[str, Any]:
        """The part `int8` of `striate export --json`."""
        ends = self.lead.interval
        return {
            "metric": self.metric,
            "n": self.n,
            "fp32": self.fp32,
            "int8": self.int8,
            "difference": self.lead.value,
            "difference_interval": None if ends is None else [ends.low, ends.high],
            "p_value": self.lead.p_value,
            "images_per_second": dict(self.rates),
            "other_images_per_second": dict(self.other_rates),
            "speedup": self.speedup,
        }


def quantize_onnx(source: Path, target: Path, trained: Trained, data: Dataset) -> None:
    """Write the ONNX file `source` in int8 to `target`, calibrated on the training split."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    train = data.splits["train"]
    count = min(CALIBRATED_ON, len(train))
    raw = train.inputs[torch.arange(count) * len(train) // count].cpu()
    between = target.with_suffix(".prepared.onnx")
    with _quiet():
        quant_pre_process(str(source), str(between), skip_symbolic_shape=True)
        quantize_static(
            str(between),
            str(target),
            _Calibration(as_file_input(trained, raw), _input_name(between)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    between.unlink()


class _Calibration:
    """Gives the samples one by one, as onnxruntime's calibration requests them."""

    def __init__(self, batch: NDArray[Any], name: str) -> None:
        self._left = iter({name: one[None]} for one in batch)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._left, None)


def _input_name(path: Path) -> str:
    import onnx

    return str(onnx.load(path, load_external_data=False).graph.input[0].name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence onnxruntime's quantization, which logs advice on manual steps."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def measure_quantized(
    trained: Trained, data: Dataset, int8: Mapping[str, Runner], fp32: Mapping[str, Runner]
) -> Quantized:
    """Measure accuracy on the validation split and speed of an int8 file, the fp32 file and the backends of torch."""
    split = data.splits[_SPLIT]
    targets = split.targets.cpu().numpy() if isinstance(split.targets, torch.Tensor) else split.targets
    ours, theirs = (
        trained.task.rows_for(_predictions(trained, split.inputs, next(iter(runners.values()))), targets)
        for runners in (int8, fp32)
    )
    figure = trained.task.headline_metric()
    lead = type(trained.task).difference(ours, theirs)
    raw = split.inputs[torch.arange(BATCH) % len(split)].cpu()
    batch = as_file_input(trained, raw)
    rates = {name: BATCH / median_seconds(partial(run, batch)) for name, run in int8.items()}
    others = {f"{name} fp32": BATCH / median_seconds(partial(run, batch)) for name, run in fp32.items()}
    others |= _backend_rates(trained, raw)
    return Quantized(trained.task.headline, len(split), figure.value(theirs), figure.value(ours), lead, rates, others)


def _predictions(trained: Trained, inputs: Any, run: Runner) -> Any:
    """The predictions of a file for all samples of a split."""
    size = trained.preparation.input_shape[1:] if len(trained.preparation.input_shape) == 3 else None
    found = []
    for start in range(0, len(inputs), BATCH):
        raw = inputs[torch.arange(start, min(start + BATCH, len(inputs)))].cpu()
        found.append(trained.task.from_exported(run(as_file_input(trained, raw)), size))
    return np.concatenate(found)


def _backend_rates(trained: Trained, raw: torch.Tensor) -> dict[str, float]:
    """Images a second of the backends that `predict` may choose here, also bf16."""
    normalized = trained.normalization.on("cpu", raw.ndim)(raw)
    rates = {}
    for way in backends_to_try(torch.device("cpu")):
        with contextlib.suppress(Exception), inference(plain_predictor(trained.module)):  # not for every network
            network = prepare_backend(way, trained.module, normalized)
            name = f"torch {way.name}" if way.engine == "torch" else way.name
            rates[name] = len(raw) / median_seconds(partial(network, normalized))
    return rates
