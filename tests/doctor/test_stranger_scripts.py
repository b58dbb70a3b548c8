"""The scripts of benchmarks/doctor_scripts: faults can be planted, some are found; library trainers are seen."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, WeightedRandomSampler, default_collate

from for_checks.asked import digits, perceptron
from striate.doctor.checks.every import every_check
from striate.doctor.script import drawn_batches, network_calls, training_loop
from striate.doctor.script.library_loop import NoStep, find_library_loop
from striate.doctor.setup.replicas import make_replica
from striate.doctor.setup.training_setup import make_setup

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from doctor_stranger import DEVELOPMENT, FOLDER, part_of, scripts

CASES = scripts() | scripts(DEVELOPMENT)
KNOWN = {code for check in every_check() for code in check.codes}
HEALTHY = (
    "keras_like",
    "nanogpt",
    "gan",
    "detection",
    "dev3_word_lm",
    "dev3_two_tower",
    "dev3_yolo_head",
    "dev4_a8_triplet",
    "dev4_b7_finetune",
    "dev4-b8-healthy-bagging",
    "dev5_d_audio",
    "dev5-d-seq2seq-zero-weight-pad",
    "dev7_f7_keraslike",
    "dev7-f2-ok-nesterov-warmup",
    "dev9_a14_ddpm",
    "dev9_b03_seq2seq_attention",
    "dev9_c03_ignite_like",
    "dev9_c21_dqn",
    "dev10_h09_accumulate_bf16_sampler",
    "dev10_h12_angle_regression_engine",
    "dev10_h25_gpt_char",
    "dev11_g14_d2l_seq2seq_dates",
    "dev11_g17_wgan_gp",
    "dev11_r03_timm_train",
    "dev11-s08-healthy-undiscounted",
)
UNNAMED = ("drop-last-of-everything", "dev-amp-backward-not-scaled")
"""Scripts that raise: they are refused with their reason."""
NO_CODE = "none."
"""Begins what stands for a code where no check knows the fault."""
FOUND_IN_DEVELOPMENT = (
    "dev-d2l-accuracy-of-batches", "dev2-updates-cosine-of-epochs", "dev2-meters-crop-of-4", "dev2-learner-noise",
    "dev2-digits-scaled-twice", "dev-objective-logits-hundredth-inside", "dev3-lit-val-is-train",
    "dev3-lit-targets-shuffled", "dev3-vae-kl-sign", "dev3-wlm-sign",
    "dev4-b8-keeps-worst", "dev4-a6-teacher-without-buffers", "dev4-b6-sample-not-reparameterized",
    "dev4-b2-accuracy-by-args-batch", "dev4-b1-preds-not-reset",
    "dev4-a1-test-divided-by-255",
    "dev5-c-speedrun-test-not-normalized", "dev5-d-ddpm-ema-slow", "dev5-d-heatmap-flip-no-swap",
    "dev5-c-imagenet-best-by-highest-loss", "dev5-c-digits-count-full-batches",
    "dev5-d-seq2seq-mask-inverted", "dev6-e4-raw-features",
    "dev7-f7-early-stopping-minimizes-accuracy", "dev7-f9-same-view-twice", "dev7-f1-correct-counted-nxn",
    "dev9-b13-values-as-column", "dev9-b07-onecycle-per-epoch", "dev9-b09-worst-epoch-kept", "dev9-b04-own-vocabulary",
    "dev9-a08-mask-not-flipped", "dev9-a15-no-zero-grad",
    "dev10-p01-sum-dropped", "dev10-p09-schedule-negative", "dev10-p03-ra-same-third", "dev10-q07-width-in-cells",
    "dev10-q11-state-by-reference",
    "dev11-s01-flip-keeps-angle", "dev11-s06-generator-wants-fake", "dev11-s07-padding-read",
    "dev11-s08-reward-thousand", "dev11-s09-momentum-of-tensorflow", "dev11-r03-warmup-in-updates",
)  # fmt: skip
FOUND = ("argmax-over-batch", "plateau-wrong-mode", "mask-not-flipped", "class-weights-inverted")


@pytest.mark.slow
def test_each_fault_can_be_planted_and_has_a_code_that_exists() -> None:
    for number, (name, (part, _, text, codes)) in enumerate(CASES.items()):
        if number % 4 == 0:
            ast.parse(text)
        known = set(codes) & KNOWN or name in UNNAMED or any(code.startswith(NO_CODE) for code in codes)
        assert "healthy" in part or known, name
    assert sum(case[0] == "healthy" for case in CASES.values()) >= 30
    assert len(CASES) >= 110


@pytest.mark.slow
def test_each_edited_script_is_python() -> None:
    for _, _, text, _ in CASES.values():
        ast.parse(text)


def examined(name: str, folder: Path) -> dict[str, Any]:
    """The document of a script, run from a folder of its own."""
    (folder / "toydata.py").symlink_to(FOLDER / "toydata.py")
    script = folder / "train.py"
    script.write_text(CASES[name][2])
    command = [sys.executable, "-m", "striate.doctor", script.name, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    document: dict[str, Any] = json.loads(done.stdout)
    failed = {code: why for code, why in document.get("skipped", {}).items() if why.startswith("the check itself")}
    assert not failed
    return document


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_script_gets_no_warning(name: str, tmp_path: Path) -> None:
    document = examined(name, tmp_path)
    assert [f["code"] for f in document["findings"] if f["severity"] != "note"] == [], document["findings"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND)
def test_a_fault_is_the_first_finding(name: str, tmp_path: Path) -> None:
    assert part_of(name) == "train"
    document = examined(name, tmp_path)
    assert document["findings"][0]["code"] in CASES[name][3], document["findings"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND_IN_DEVELOPMENT)
def test_a_fault_that_a_check_was_made_for_is_the_first_finding(name: str, tmp_path: Path) -> None:
    if "-lit-" in name and importlib.util.find_spec("lightning") is None:
        pytest.skip("lightning is not installed")
    document = examined(name, tmp_path)
    assert document["findings"][0]["code"] in CASES[name][3], document["findings"]


class Module(nn.Module):
    """As a LightningModule."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.automatic_optimization = perceptron(), True

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None: ...


class Trainer(SimpleNamespace):
    """As Lightning's, in the middle of `fit`."""

    def fit(self) -> Any:
        return find_library_loop()


Trainer.__module__ = "lightning.pytorch.trainer.trainer"


def trainer(**other: Any) -> Any:
    given: dict[str, Any] = {
        "lightning_module": Module(), "gradient_clip_val": 1.0, "gradient_clip_algorithm": "norm", "datamodule": None,
        "lr_scheduler_configs": [], "max_steps": -1, "max_epochs": 3, "accumulate_grad_batches": 1,
        "optimizers": [None], "train_dataloader": digits(), "val_dataloaders": [digits(most=64)],
    }  # fmt: skip
    return Trainer(**(given | other))


def test_the_step_of_lightnings_trainer_is_made_anew() -> None:
    owner = trainer()
    loop, val = owner.fit()
    model = owner.lightning_module
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = next(iter(loop.batches))
    losses = [float(loop.step(model, batch, optimizer, None)) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert loop.model is model
    assert val is owner.val_dataloaders[0]


class Turned(Module):
    """Turns its batches round when they come to it, and works in double precision."""

    def on_after_batch_transfer(self, batch: Any, _: int) -> Any:
        assert batch[0].dtype == torch.float64
        return batch[0].flip(-1), batch[1]


def test_a_batch_is_brought_to_lightnings_module_as_its_trainer_does() -> None:
    plugin = SimpleNamespace(convert_input=lambda batch: [batch[0].double(), batch[1]])
    model = Turned().double()
    loop, _ = trainer(lightning_module=model, precision_plugin=plugin).fit()
    shown = list[torch.Tensor]()
    model.net.register_forward_hook(lambda _, given, __: shown.append(given[0]))
    batch = next(iter(loop.batches))
    loop.step(model, batch, torch.optim.SGD(model.parameters(), lr=0.1), None)
    assert torch.equal(shown[0], batch[0].double().flip(-1))


class OfTransformers(SimpleNamespace):
    """As transformers' Trainer, in the middle of `train`."""

    def train(self) -> Any:
        return find_library_loop()

    def get_train_dataloader(self) -> Any:
        raise AssertionError("the library's own loader is wrapped for its devices")

    def compute_loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def _get_train_sampler(self) -> Any:
        return RandomSampler(self.train_dataset)


for kind in (OfTransformers, OfTransformers.get_train_dataloader, OfTransformers.compute_loss):
    kind.__module__ = "transformers.trainer"
OfTransformers.__name__ = "Trainer"


class Weighted(OfTransformers):
    def _get_train_sampler(self) -> Any:
        return WeightedRandomSampler([1.0] * len(self.train_dataset), len(self.train_dataset))


class OwnLoader(OfTransformers):
    def get_train_dataloader(self) -> Any:
        return DataLoader(self.train_dataset, 8)


@pytest.mark.parametrize(
    ("kind", "sampler", "size"),
    [(OfTransformers, RandomSampler, 16), (Weighted, WeightedRandomSampler, 16), (OwnLoader, SequentialSampler, 8)],
)
def test_batches_of_transformers_come_as_its_trainer_takes_them(kind: Any, sampler: Any, size: int) -> None:
    given: dict[str, Any] = {
        "max_grad_norm": 1.0, "train_batch_size": 16, "eval_batch_size": 32, "max_steps": -1, "num_train_epochs": 3.0,
        "gradient_accumulation_steps": 1, "dataloader_drop_last": True,
    }  # fmt: skip
    data = digits().dataset
    loop, val = kind(
        args=SimpleNamespace(**given), model=perceptron(), lr_scheduler=None, train_dataset=data, eval_dataset=data,
        data_collator=default_collate, compute_metrics=None,
    ).train()  # fmt: skip
    assert isinstance(loop.batches.sampler, sampler)
    assert len(next(iter(loop.batches))[0]) == size
    assert isinstance(val.sampler, SequentialSampler)


class ByHand(Module):
    """As one whose training_step makes the step itself."""

    def training_step(self, batch: Any, _: int) -> Any:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, 0))
        optimizer.step()


def test_optimization_by_hand_is_stepped_by_the_module() -> None:
    owner = trainer(lightning_module=ByHand())
    owner.lightning_module.automatic_optimization = False
    loop, _ = owner.fit()
    optimizer = torch.optim.SGD(loop.model.parameters(), lr=0.1)
    batch = next(iter(loop.batches))
    losses = [float(loop.step(loop.model, batch, optimizer, None)) for _ in range(5)]
    assert losses[-1] < losses[0]


def test_schedulers_of_optimization_by_hand_are_stepped_by_the_module() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    schedule = SimpleNamespace(scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 5), interval="epoch", monitor=None)
    for by_hand in (False, True):
        owner = trainer(lightning_module=ByHand(), lr_scheduler_configs=[schedule])
        owner.lightning_module.automatic_optimization = not by_hand
        loop, _ = owner.fit()
        assert len(loop.library.schedules) == (not by_hand)


class Attached(Module):
    """As one that reads its trainer and logs; like Lightning's, its copies have no trainer."""

    def __init__(self) -> None:
        super().__init__()
        self._trainer: Any = None

    def __getstate__(self) -> Any:
        return vars(self) | {"_trainer": None}

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        self.log("rate", 1.0)
        return self._trainer.max_epochs * super().training_step(batch, 0)

    def log(self, *_: Any) -> None:
        raise AssertionError("a trial logs")


def test_a_copy_of_a_module_has_its_trainer() -> None:
    model = Attached()
    owner = trainer(lightning_module=model)
    model._trainer = owner
    loop, _ = owner.fit()
    twin = make_replica(make_setup(model, loop.batches, step=loop.step, optimizer=torch.optim.SGD(model.parameters())))
    assert float(twin.step(twin.model, next(iter(loop.batches)), twin.optimizer, twin.loss)) > 3
    assert twin.model._trainer is None
    assert "log" not in vars(twin.model)


def test_of_several_optimizers_by_hand_only_the_code_is_read() -> None:
    owner = trainer(optimizers=[None, None])
    owner.lightning_module.automatic_optimization = False
    with pytest.raises(NoStep, match="2 optimizers"):
        owner.fit()


def test_batches_that_a_function_yields_are_called_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_loop, "written_by_user", lambda name: name == __name__)
    x = torch.randn(64, 3)

    def batches(data: torch.Tensor) -> Any:
        yield from data.split(16)

    found = []
    for part in batches(x):
        loop = training_loop.find_loop(training_loop.user_frames())
        assert loop is not None, part.shape
        found = [[tuple(batch.shape) for batch in loop.batches] for _ in range(2)]
        break
    assert found == [[(16, 3)] * 4] * 2
    for x in batches(x):  # noqa: B007, B020 (what is called with is no more)
        assert training_loop.find_loop(training_loop.user_frames()) is None
        break


def test_batches_that_a_method_of_the_network_is_given_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fitted(nn.Linear):
        def train_on_batch(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return nn.functional.mse_loss(self(x), y)

    names = {"self": Fitted(3, 1), "x": torch.randn(64, 3), "y": torch.randn(64, 1), "order": torch.randperm(64)}
    for module in (drawn_batches, network_calls):
        monkeypatch.setattr(module, "written_by_user", lambda name: name == __name__)
    text = "for i in range(0, 64, 16):\n    take = order[i : i + 16]\n    self.train_on_batch(x[take], y[take])"
    loop = ast.parse(text).body[0]
    assert isinstance(loop, ast.For)
    drawing = drawn_batches.find_drawn_batches(loop, names)
    assert drawing is not None
    assert [tuple(part.shape) for part in drawing[2]()] == [(16, 3), (16, 1)]
