"""Trainings on a GPU: every way to compute, the same bits twice, resuming, little memory. Run by `make test-gpu`."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import striate
from striate.api.training import Run
from striate.cli import main
from striate.data import transfer
from striate.errors import StriateError

PLACE = os.environ.get("STRIATE_TEST_DEVICE", "")
"""`cuda`; or `cpu`, which runs those that any device can, to try the tests themselves."""
pytestmark = pytest.mark.skipif(
    not PLACE or (PLACE == "cuda" and not torch.cuda.is_available()), reason="`make test-gpu` runs them on a GPU"
)
on_gpu_alone = pytest.mark.skipif(PLACE != "cuda", reason="only a GPU computes so")
NETWORK = "resnet18(stem=small,width=8)"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four classes that a small network tells apart within two passes."""
    numbers, arrays = np.random.default_rng(0), dict[str, Any]()
    for part, count in (("train", 1024), ("val", 64), ("test", 128)):
        y = np.arange(count) % 4
        x = numbers.integers(0, 120, (count, 3, 32, 32), np.uint8)
        for k in range(count):
            x[k, y[k] % 3, (y[k] // 2) * 16 : (y[k] // 2 + 1) * 16] += 100
        arrays |= {f"x_{part}": x, f"y_{part}": y}
    file = tmp_path_factory.mktemp("gpu") / "four.npz"
    np.savez(file, **arrays)
    return str(file)


def trained(data: str, out: str, model: Any = NETWORK, epochs: int = 2, **fields: Any) -> Run:
    computed = {f"execution.{name}": value for name, value in fields.items()} | {"execution.device": PLACE}
    return striate.train(data, model, epochs=epochs, seed=3, out=out, set=computed)


def loss(run: Run) -> float:
    return float(run.metrics["test"]["loss"])


def decided(run: Run) -> dict[str, Any]:
    return dict(yaml.safe_load((Path(run.path) / "config.yaml").read_text())["execution"])


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("precision", ["fp32", pytest.param("tf32", marks=on_gpu_alone), "bf16"])
def test_it_learns_in_every_precision_and_layout(data: str, precision: str, layout: str) -> None:
    run = trained(data, "run", precision=precision, memory_format=layout, compile="off")
    assert run.metrics["test"]["accuracy"] > 0.95


@on_gpu_alone
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty:UserWarning")  # torch's own, which it hides where it can
@pytest.mark.parametrize("how", ["default", "cuda-graphs"])
def test_it_learns_compiled_in_fp16(data: str, how: str) -> None:
    run = trained(data, "run", epochs=3, precision="fp16", memory_format="channels_last", compile=how)
    assert run.metrics["test"]["accuracy"] > 0.95


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_bits_come_twice_and_with_images_that_stay_in_memory(
    data: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"precision": precision, "memory_format": "channels_last", "compile": "off"}
    once, twice = (loss(trained(data, out, **fields)) for out in ("once", "twice"))
    monkeypatch.setattr(transfer, "DEVICE_SHARE", 0.0)
    assert once == twice == loss(trained(data, "sent", **fields))


def test_a_run_predicts_on_the_cpu_what_it_predicts_there(data: str) -> None:
    trained(data, "run", plan="plain")
    images = list(np.load(data)["x_test"])
    there, here = (striate.load("run", device=place).predict(images) for place in (PLACE, "cpu"))
    assert [one.label for one in there] == [one.label for one in here]


def test_a_run_that_was_cut_within_an_epoch_ends_with_the_same_bits(data: str) -> None:
    def stop(event: Any) -> None:
        if getattr(event, "step", 0) == 11 and not hasattr(event, "row"):
            raise KeyboardInterrupt

    fields = {"execution.device": PLACE, "execution.plan": "plain"}
    whole = striate.train(data, NETWORK, epochs=2, seed=3, out="whole", set=fields)
    with suppress(KeyboardInterrupt):
        striate.train(data, NETWORK, epochs=2, seed=3, out="cut", set=fields, on_event=stop)
    assert main(["train", "--resume", "cut"]) == 0
    assert json.loads(Path("cut/metrics.json").read_text())["test"] == whole.metrics["test"]


@on_gpu_alone
@pytest.mark.parametrize("plan", ["plain", "auto"])
def test_a_batch_that_does_not_fit_is_computed_in_parts(data: str, plan: str) -> None:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(500e6 / total)
    try:
        run = striate.train(data, "resnet18(stem=small)", epochs=1, batch=512, out="run", set={"execution.plan": plan})
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    execution = decided(run)
    assert execution["micro_batch"] or execution["micro_batch_from"]


def test_a_loss_that_is_not_finite_is_told_with_its_layer(data: str) -> None:
    fields = {"optim.name": "sgd", "optim.lr": 1e9, "execution.plan": "plain", "execution.device": PLACE}
    with pytest.raises(StriateError, match="in the output of conv2"):
        striate.train(data, "conv(8,3) relu conv(8,3) relu fc(4)", epochs=3, out="run", set=fields)


def test_the_plan_is_measured_there(data: str) -> None:
    plan = striate.plan_training(data, NETWORK, batch=64, set={"execution.device": PLACE}, seconds=5)
    assert "batch 64: plan: " in str(plan)


def test_the_doctor_finds_a_rate_that_is_far_too_high(data: str) -> None:
    arrays = np.load(data)
    samples = torch.utils.data.TensorDataset(
        torch.from_numpy(arrays["x_train"]).float() / 255, torch.from_numpy(arrays["y_train"])
    )
    network = striate.build(NETWORK, (3, 32, 32), 4).to(PLACE)
    loader = torch.utils.data.DataLoader(samples, 64, shuffle=True)
    found = striate.diagnose(network, loader, optimizer=torch.optim.SGD(network.parameters(), lr=500.0))
    assert found.findings[0].code == "optim.lr-too-high"
