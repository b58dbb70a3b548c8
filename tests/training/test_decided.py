"""What a request on top of a decided configuration opens again, and what stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from short_runs import asked_for

from striate.cli import main
from striate.runs.checkpoint import load_checkpoint
from striate.training.config import Config
from striate.training.config_file import config_from_yaml
from striate.training.prepare import prepare
from striate.training.request import merge_request

BASE = ["train", "digits", "--model", "conv(4,3) relu fc(10)", "--epochs", "2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decided") / "run"
    assert main([*BASE, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def decided(run: Path) -> Config:
    return config_from_yaml(run / "config.yaml")


@pytest.mark.slow
def test_what_was_decided_is_listed_and_what_was_asked_for_is_not(decided: Config) -> None:
    assert {"optim.lr", "batch", "augment.shift", "data.size", "execution.threads"} <= set(decided.decided)
    assert not {"budget.epochs", "model.name", "data.source", "seed"} & set(decided.decided)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("fields", "opened", "kept"),
    [
        ({"recipe": "quick"}, ["batch", "optim.lr", "augment.shift"], ["data.size"]),
        ({"optim.name": "sgd"}, ["optim.lr", "optim.weight_decay"], ["batch"]),
        ({"data.size": [12, 12]}, ["batch", "augment.shift", "optim.lr", "execution.threads"], ["execution.device"]),
        (
            {"data.source": "iris"},
            ["data.size", "data.channels", "batch", "optim.lr", "execution.threads"],
            ["execution.device"],
        ),
        ({"model.name": "mlp(8)"}, ["batch", "optim.lr", "keep", "augment.shift"], ["data.size"]),
        ({"budget.epochs": 3}, ["optim.weight_decay"], ["batch", "optim.lr", "keep"]),
        ({"batch": 8}, ["optim.weight_decay"], ["optim.lr", "keep"]),
        ({"optim.lr": 0.5}, ["optim.weight_decay"], ["batch", "keep"]),
        ({"budget.patience": 3}, ["budget.patience"], ["batch", "optim.lr", "optim.weight_decay", "keep"]),
        ({"seed": 3}, [], ["batch", "optim.lr", "augment.shift", "data.size"]),
    ],
)
def test_followers_of_a_replaced_field_are_open_again(decided: Config, fields, opened, kept) -> None:
    merged = merge_request(decided, fields=fields)
    assert not set(opened) & set(merged.decided)
    assert set(kept) <= set(merged.decided)


def test_the_momentum_and_the_warm_up_that_are_used_are_saved_and_open_again_with_what_has_them() -> None:
    def config(**fields: object) -> Config:
        return prepare(asked_for("digits", 1, **fields)).config

    sgd = config(**{"optim.name": "sgd"})
    assert (sgd.optim.momentum, sgd.schedule.warmup, sgd.schedule.full_size_from) == (0.9, 0.2, None)
    assert prepare(sgd).config == sgd
    assert {"optim.momentum", "schedule.warmup"} <= set(sgd.decided)
    other = prepare(merge_request(sgd, fields={"optim.name": "adamw", "schedule.name": "constant"})).config
    assert (other.optim.momentum, other.schedule.warmup) == (None, None)
    smaller = config(**{"model.name": "conv(4,3) relu gap fc(10)", "schedule.first_size": 0.5})
    assert smaller.schedule.full_size_from == 0.6


def test_fields_that_the_user_set_stay_whatever_is_replaced() -> None:
    assert main([*BASE, "--lr", "0.001", "--batch", "32", "--out", "run"]) == 0
    merged = merge_request(config_from_yaml(Path("run/config.yaml")), fields={"recipe": "quick", "optim.name": "sgd"})
    assert (merged.optim.lr, merged.batch, merged.budget.epochs) == (0.001, 32, 2)


@pytest.mark.slow
def test_a_dotted_budget_on_top_of_a_run_is_kept(run: Path) -> None:
    assert main(["train", "--config", str(run / "config.yaml"), "--budget.epochs", "1", "--out", "again"]) == 0
    whole, short = (load_checkpoint(path / "checkpoints/last.pt")["step"] for path in (run, Path("again")))
    assert short * 2 == whole


def test_a_run_on_other_data_decides_anew(run: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez("big.npz", x=rng.integers(0, 255, (60, 20, 20)).astype(np.uint8), y=np.arange(60) % 10)
    assert main(["train", "big.npz", "--config", str(run / "config.yaml"), "--out", "other"]) == 0
    other = config_from_yaml(Path("other/config.yaml"))
    assert other.data.size == (20, 20)
    assert other.batch == 16
