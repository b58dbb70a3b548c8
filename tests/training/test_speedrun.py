"""The recipe speedrun: what it decides, for which data and networks, and what it refuses."""

from __future__ import annotations

import re

import pytest
import torch
from short_runs import asked_for, events_of, trained
from torch import nn

from striate.account.summarize import count_macs
from striate.cli import main
from striate.data.dataset import Dataset, Preparation, Split
from striate.errors import ConfigError
from striate.layers.convolution import WhiteningConv2d
from striate.models.build import build_model
from striate.models.choose import airbench_macs, choose_fast_model, choose_model
from striate.training.config import Config
from striate.training.config_file import config_from_yaml, get_field, with_fields
from striate.training.prepare import prepare
from striate.training.recipes.decide import decide
from striate.training.recipes.facts import gather_facts
from striate.training.recipes.speedrun import (
    batch_size,
    before_data,
    before_network,
    for_photographs,
    network_for,
    with_enough_validation,
)
from striate.training.request import merge_request


def dataset(shape=(3, 32, 32), name="photos", kind="image", annotation="class", n=2000) -> Dataset:
    def first(count: int) -> Split:
        count = min(n, count)
        return Split(
            torch.zeros(1, dtype=torch.uint8).expand(count, *shape), torch.zeros(count).long(), torch.arange(count)
        )

    splits = {"train": first(n), "val": first(1_200), "test": first(10_000)}
    return Dataset(name, name, kind, annotation, splits, ("a", "b"), Preparation(kind, shape), (), "f")


def decided(fields: dict | None = None, data: Dataset | None = None, model: str = "airbench(width=4)") -> Config:
    data = data or dataset()
    config = with_fields(Config(), {"recipe": "speedrun", **(fields or {})})
    facts = gather_facts(data, build_model(model, data.input_shape, 2), has_weights=False)
    return decide(config, data, facts).config


def test_a_network_with_normalization_is_turned_at_a_fixed_norm_by_a_rate_that_falls_in_a_line() -> None:
    config = decided()
    assert (config.optim.name, config.optim.fixed_norm, config.optim.weight_decay) == ("muon", True, 0.0)
    assert config.optim.other_lr < config.optim.lr
    assert (config.schedule.name, config.keep) == ("triangle", "last")
    assert config.schedule.first_size < 1
    assert (config.augment.flip, config.augment.fill, config.evaluation.views) == (
        "alternate",
        "reflect",
        "mirror-shift",
    )


def test_digits_are_not_mirrored_in_any_view() -> None:
    config = decided(data=dataset((1, 28, 28), "mnist"))
    assert config.augment.flip is False
    assert config.evaluation.views is None


@pytest.mark.parametrize("model", ["conv(4,3) relu fc(2)", "mlp(8)"])
def test_a_network_without_normalization_moves_freely(model) -> None:
    config = decided(model=model)
    assert config.optim.name == "muon"
    assert not config.optim.fixed_norm
    assert config.optim.other_lr is None
    assert config.optim.lr < 0.05


ASKED = {
    "optim.lr": 0.07, "optim.momentum": 0.9, "optim.other_lr": 0.5, "optim.fixed_norm": False,
    "schedule.name": "cosine", "schedule.warmup": 0.2, "schedule.first_size": 1.0, "evaluation.views": "none",
    "batch": 7, "keep": "best", "budget.epochs": 3, "augment.flip": True, "augment.fill": "edge",
    "optim.weight_decay": 0.1,
}  # fmt: skip


def test_what_the_user_set_stays() -> None:
    config = decided(ASKED)
    assert {name: get_field(config, name) for name in ASKED} == ASKED


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_another_schedule_gets_no_field_that_it_has_not(schedule) -> None:
    assert decided({"schedule.name": schedule}).schedule.warmup is None


def test_another_optimizer_has_its_own_rate_and_schedule() -> None:
    config = decided({"optim.name": "sgd"})
    assert (config.optim.lr, config.optim.weight_decay, config.schedule.name) == (0.1, 5e-4, "one-cycle")
    assert (config.optim.fixed_norm, config.optim.momentum) == (None, None)


def test_sgd_moves_airbench_gently() -> None:
    usual = decided({"optim.name": "sgd", "model.name": "small-resnet"})
    gentle = decided({"optim.name": "sgd", "model.name": "airbench(width=4)"})
    assert gentle.optim.lr == pytest.approx(usual.optim.lr / 10)


def test_a_table_is_trained_as_the_standard_recipe_does_and_that_is_said() -> None:
    speed, usual = prepare(asked_for("iris", recipe="speedrun")), prepare(asked_for("iris", recipe="standard"))
    names = ("optim", "schedule", "batch", "keep")
    assert [getattr(speed.config, name) for name in names] == [getattr(usual.config, name) for name in names]
    assert [len(speed.splits["val"]), speed.config.task] == [len(usual.splits["val"]), usual.config.task]
    assert any("speedrun is for images" in note for note in speed.notes)


def test_a_share_that_leaves_a_handful_to_validate_by_is_raised_unless_it_was_asked_for() -> None:
    config = with_fields(Config(), {"recipe": "speedrun"})
    small, large = dataset(n=30), dataset(n=2000)
    begun = before_data(config)
    assert with_enough_validation(begun, config, small).data.val_fraction is None
    assert with_enough_validation(begun, config, large) == begun
    given = with_fields(config, {"data.val_fraction": 0.02})
    assert with_enough_validation(given, given, small) == given


@pytest.mark.parametrize(("samples", "expected"), [(50_000, 512), (10_000, 128), (4_000, 64), (10, 64)])
def test_batches_leave_fifty_steps_an_epoch(samples, expected) -> None:
    assert batch_size(samples) == expected


def test_few_samples_are_held_back_and_labels_smoothed_for_this_recipe_alone() -> None:
    speed, usual = with_fields(Config(), {"recipe": "speedrun"}), Config()
    assert (before_data(speed).data.val_fraction, before_data(usual)) == (0.02, usual)
    assert (before_network(speed, dataset()).task.label_smoothing, before_network(usual, dataset())) == (0.2, usual)
    given = with_fields(speed, {"data.val_fraction": 0.1, "task.label_smoothing": 0.0})
    assert before_network(before_data(given), dataset()) == given


def test_it_is_the_recipe_of_few_photographs_that_nobody_named_a_network_for(photos) -> None:
    assert for_photographs(Config(), dataset((3, 32, 32), n=500), None)[0].recipe == "speedrun"
    config, notes = for_photographs(Config(), dataset((3, 96, 128), n=500), None)
    assert config == with_fields(Config(), {"recipe": "speedrun"})
    assert ["speedrun" in note and "--model" in note for note in notes] == [True]
    # The same in a whole preparation; what was asked for is kept apart from what was decided.
    source = str(photos(each=4, size=72))
    prepared = prepare(with_fields(Config(), {"data.source": source, "budget.epochs": 1, "execution.plan": "plain"}))
    assert (prepared.config.recipe, prepared.config.optim.name) == ("speedrun", "muon")
    assert prepared.config.model.name.startswith("airbench")
    assert "recipe" in prepared.config.decided
    assert before_data(prepared.config) == prepared.config  # a run goes on with the samples that it began with
    assert any("recipe speedrun" in note for note in prepared.notes)
    other = merge_request(prepared.config, fields={"model.name": "small-resnet"})
    assert (other.recipe, other.optim.name, other.task.label_smoothing) == (None, None, None)


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({}, dataset((3, 31, 40), n=500)),
        ({}, dataset((1, 64, 64), n=500)),
        ({}, dataset((3, 96, 96), n=5_001)),
        ({}, dataset((3, 96, 96), annotation="number", n=500)),
        ({"task.name": "embed"}, dataset((3, 96, 96), annotation="identity", n=500)),
        ({}, dataset((3, 96, 96), annotation="mask", n=500)),
        ({}, dataset((2, 100), kind="grid", n=500)),
        ({"model.name": "small-resnet"}, dataset((3, 96, 96), n=500)),
        ({"model.weights": "w.pt"}, dataset((3, 96, 96), n=500)),
        ({"recipe": "quick"}, dataset((3, 96, 96), n=500)),
        ({"recipe": "standard"}, dataset((3, 96, 96), n=500)),
        ({"optim.name": "local-rule"}, dataset((3, 96, 96), n=500)),
    ],
)
def test_everything_else_keeps_its_recipe(fields, data) -> None:
    config = with_fields(Config(), fields)
    assert for_photographs(config, data, None) == (config, [])
    assert for_photographs(Config(), dataset((3, 96, 96), n=500), nn.Linear(1, 1)) == (Config(), [])


@pytest.mark.parametrize(
    ("fields", "annotation"),
    [({}, "number"), ({}, "mask"), ({"task.loss": "hinge"}, "class"), ({"optim.name": "local-rule"}, "class")],
)
def test_what_has_no_cross_entropy_of_classes_is_not_smoothed(fields, annotation) -> None:
    config = with_fields(Config(), {"recipe": "speedrun", **fields})
    assert before_network(config, dataset(annotation=annotation)).task.label_smoothing is None


@pytest.mark.parametrize(
    ("kind", "shape", "needs", "begins"),
    [
        ("image", (3, 32, 32), "vector", "airbench"),
        ("image", (1, 28, 28), "vector", "airbench(width="),
        ("image", (3, 224, 224), "vector", "airbench"),
        ("image", (1, 8, 8), "vector", None),
        ("image", (3, 64, 64), "map", None),
        ("grid", (2, 100), "vector", None),
        ("table", (4,), "vector", None),
    ],
)
def test_the_network_is_airbench_for_images_that_it_takes_and_the_usual_one_else(kind, shape, needs, begins) -> None:
    name, why = choose_fast_model(kind, shape, needs, 1000)
    assert why
    if begins is None:
        assert (name, why) == choose_model(kind, shape, needs, 1000)
    else:
        assert name.startswith(begins)
        build_model(name, shape, 10)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("shape", "samples", "minutes", "width"),
    [
        ((1, 28, 28), 58_800, 1, "airbench(width=16)"),
        ((1, 28, 28), 58_800, 2.5, "airbench(width=32)"),
        ((3, 32, 32), 49_000, 12, "airbench"),
        ((3, 32, 32), 49_000, 0.1, "airbench(width=16)"),
        ((3, 48, 48), 180, 0.6, "airbench"),  # five passes take 3 s with a width of 128, all else half a minute
        ((3, 32, 32), 49_000, 10_000, "airbench(width=128)"),
        ((3, 32, 32), 49_000, None, "airbench"),
    ],
)
def test_the_network_is_as_wide_as_the_minutes_allow(shape, samples, minutes, width) -> None:
    config = with_fields(
        Config(), {"recipe": "speedrun", "budget.minutes": minutes, "execution.device": "cpu", "execution.threads": 2}
    )
    assert network_for(config, dataset(shape, n=samples))[0] == width
    assert network_for(with_fields(config, {"recipe": "standard"}), dataset(shape, n=10))[0] != width


@pytest.mark.parametrize(
    ("width", "shape"), [(64, (3, 32, 32)), (16, (1, 28, 28)), (32, (3, 96, 160)), (8, (5, 9, 13))]
)
def test_multiply_accumulates_of_airbench_are_those_of_the_network(width, shape) -> None:
    with torch.device("meta"):
        network = build_model(f"airbench(width={width})", shape, 10)
    assert airbench_macs(width, shape) + 4 * width * 10 == count_macs(network, shape)


@pytest.mark.slow
def test_a_run_whitens_its_first_layer_from_its_training_images_and_learns() -> None:
    prepared = prepare(asked_for("mnist5k", 1, recipe="speedrun", **{"model.name": "airbench(width=4)"}))
    first = prepared.state.module.whiten
    assert isinstance(first, WhiteningConv2d)
    with torch.no_grad():
        x = prepared.normalize(prepared.splits["train"].inputs[::8])
        variance = first(x).var((0, 2, 3))
    assert torch.allclose(variance, torch.ones_like(variance), atol=0.2)
    before = first.weight.clone()
    for _ in events_of(prepared):
        pass
    assert torch.equal(first.weight, before)
    assert first.bias.detach().any()
    assert prepared.state.history[-1].val["accuracy"] > 0.6
    assert any("whitened" in note for note in prepared.notes)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_network_and_resuming_does_not_whiten_anew(tmp_path) -> None:
    command = [
        "train",
        "digits",
        "--model",
        "airbench(width=4)",
        "--size",
        "12",
        "--recipe",
        "speedrun",
        "--epochs",
        "1",
    ]
    for name in ("a", "b"):
        assert main([*command, "--execution.plan", "plain", "--out", str(tmp_path / name)]) == 0
    first, second = (torch.load(tmp_path / name / "checkpoints/last.pt", weights_only=True) for name in ("a", "b"))
    assert all(torch.equal(first["model"][k], second["model"][k]) for k in first["model"])
    assert main(["train", "--resume", str(tmp_path / "a")]) == 0
    # Another recipe on top opens what this one decided.
    merged = merge_request(config_from_yaml(tmp_path / "a" / "config.yaml"), fields={"recipe": "standard"})
    assert (merged.data.val_fraction, merged.task.label_smoothing, merged.optim.fixed_norm) == (None, None, None)
    assert (merged.schedule.warmup, merged.evaluation.views, merged.optim.momentum) == (None, None, None)


@pytest.mark.slow
def test_a_network_of_ones_own_learns_by_it() -> None:
    own = trained(
        asked_for("digits", 2, recipe="speedrun", **{"model.name": "conv(8,3) bn relu conv(8,3) bn relu gap fc(10)"})
    )
    assert own.config.optim.fixed_norm is True
    assert own.state.history[-1].val["accuracy"] > 0.3
    assert not any("whitened" in note for note in own.notes)


def test_a_first_layer_of_ones_own_is_whitened_where_that_is_asked() -> None:
    fields = {"model.name": "conv(8,2) relu pool(2) fc(10)", "model.whiten": True}
    prepared = prepare(asked_for("digits", 1, **fields))
    first = next(m for m in prepared.state.module.modules() if isinstance(m, nn.Conv2d))
    assert not first.weight.requires_grad
    assert torch.equal(first.weight[:4], -first.weight[4:])


def test_without_whitening_the_kernels_of_airbench_stay_random() -> None:
    prepared = prepare(asked_for("mnist5k", 1, **{"model.name": "airbench(width=4)", "model.whiten": False}))
    assert not torch.equal(prepared.state.module.whiten.weight[:4], -prepared.state.module.whiten.weight[4:])


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"model.name": "perceptron", "optim.name": "local-rule", "recipe": "speedrun"}, "recipe"),
        ({"model.name": "madaline", "recipe": "speedrun"}, "recipe"),
        ({"model.name": "mlp(8)", "model.whiten": True}, "model.whiten"),
        ({"optim.name": "sgd", "optim.fixed_norm": True}, "optim.fixed_norm"),
        ({"optim.name": "adamw", "optim.other_lr": 0.1}, "optim.other_lr"),
        ({"schedule.name": "constant", "schedule.warmup": 0.1}, "schedule.warmup"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(fields, where) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(asked_for("mnist5k", 1, **fields))
    assert caught.value.where == where
    assert caught.value.remedy


@pytest.mark.slow
def test_learned_weights_are_not_undone(tmp_path) -> None:
    run = tmp_path / "run"
    assert (
        main(["train", "digits", "--model", "airbench(width=4)", "--size", "12", "--epochs", "1", "--out", str(run)])
        == 0
    )
    for fields in ({"recipe": "speedrun"}, {"model.whiten": True}):
        with pytest.raises(ConfigError) as caught:
            prepare(asked_for("digits", 1, **{"model.name": str(run), "data.size": [12, 12], **fields}))
        assert caught.value.where == next(iter(fields))
        remedy = caught.value.remedy
        assert re.search(r"--recipe fine-tune|leave out --model.whiten", remedy)
    tuned = prepare(asked_for("digits", 1, **{"model.name": str(run), "data.size": [12, 12]}))
    saved = torch.load(run / "checkpoints/best.pt", weights_only=True)["model"]["whiten.weight"]
    assert torch.equal(tuned.state.module.whiten.weight, saved)
