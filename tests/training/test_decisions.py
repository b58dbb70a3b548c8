"""What the recipes decide."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from striate.data.config import AugmentConfig, DataConfig
from striate.data.dataset import Dataset, Preparation, Split
from striate.errors import ConfigError
from striate.models.build import build_model
from striate.tasks.registry import task_for
from striate.training.config import BudgetConfig, Config
from striate.training.config_file import with_fields
from striate.training.nonfinite.locate import locate_nonfinite
from striate.training.recipes.decide import Decision, decide
from striate.training.recipes.facts import Facts, gather_facts
from striate.training.recipes.standard import standard
from striate.training.request import merge_request, read_config


def dataset(name: str = "photos", shape: tuple[int, ...] = (3, 32, 32), kind="image", annotation="class", n: int = 100):
    split = Split(torch.zeros(n, *shape, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64), torch.arange(n))
    splits = {"train": split, "val": split, "test": split}
    return Dataset(name, name, kind, annotation, splits, ("a", "b"), Preparation(kind, shape), (), "f")


def decided_for(config: Config, data: Dataset) -> Decision:
    network = build_model("fc(2)" if data.kind == "table" else "conv(4,3) relu fc(2)", data.input_shape, 2)
    survives_moves = task_for(data, config.task).survives_moves
    return decide(config, data, gather_facts(data, network, has_weights=False, survives_moves=survives_moves))


OFF = AugmentConfig(
    shift=0, flip=False, vertical_flip=False, crop=1.0, rotate=0, scale=0, shear=0, color=0, noise=0, blur=0, cutout=0,
    policy="none", mixup=0, cutmix=0, fill="edge", window=0, zoom=1.0,
    time_shift=0, gain=0, speed=0, time_mask=0, frequency_mask=0,
    depth_flip=False, foreground=0, quarter_turns=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (dataset(), {"shift": 2, "flip": True}),
        (dataset("mnist", (1, 28, 28)), {"shift": 2}),
        (dataset("svhn"), {"shift": 2}),
        (dataset("fashion-mnist", (1, 28, 28)), {"shift": 2, "flip": True}),
        (dataset(shape=(3, 96, 96)), {"flip": True, "crop": True}),
        (dataset(shape=(3, 96, 96), annotation="number"), {}),
        (dataset(shape=(4,), kind="table"), {}),
    ],
    ids=["small color", "digits", "house numbers", "clothes", "photos", "numbers", "table"],
)
def test_augmentation_suits_the_data(data: Dataset, expected: dict) -> None:
    decided = decided_for(Config(), data)
    crop = decided.config.augment.crop
    assert (crop < 0.5) == ("crop" in expected), "large images are cropped, how far the recipe says"
    assert decided.config.augment == replace(OFF, **{**expected, "crop": crop})
    open_fields = [name for name, value in vars(decided.config.augment).items() if value is None]
    assert open_fields == ["transform"], "a new field needs its value for no change in recipes/augmentation.py"
    if data.kind == "image":
        assert any("augmentation" in note for note in decided.notes)


def test_what_turns_augmentation_on_is_not_said_where_it_was_given() -> None:
    def said(**fields: object) -> str:
        config = Config(augment=AugmentConfig(**fields), budget=BudgetConfig(epochs=1))  # type: ignore[arg-type]
        return next(line for line in decided_for(config, dataset()).notes if line.startswith("augmentation"))

    why = "the images cannot be memorized in 1 epoch"
    assert said() == f"augmentation: none; {why}; --augment.shift 2 or --augment.flip true turns it on"
    assert said(flip=True) == f"augmentation: mirroring; no other, since {why}"


@pytest.mark.parametrize(
    ("epochs", "layers", "varied"),
    [(4, "conv(4,3) relu fc(2)", False), (5, "conv(4,3) relu fc(2)", True), (20, "conv(4,3) relu gap fc(2)", False)],
    ids=["few passes", "by heart", "few parameters"],
)
def test_small_images_are_varied_where_the_network_learns_them_by_heart(epochs: int, layers: str, varied: bool) -> None:
    data = dataset()
    facts = gather_facts(data, build_model(layers, data.input_shape, 2), has_weights=False)
    decided = decide(with_fields(Config(), {"budget.epochs": epochs}), data, facts)
    assert bool(decided.config.augment.shift) is varied
    assert any("--augment.shift" in note for note in decided.notes) is not varied


def test_what_the_user_set_stays() -> None:
    config = merge_request(
        Config(),
        epochs=7,
        fields={"augment.flip": False, "optim.lr": 0.5, "batch": 3, "optim.weight_decay": 0, "optim.name": "sgd"},
    )
    decided = decided_for(config, dataset()).config
    assert (decided.augment.flip, decided.optim.lr, decided.batch, decided.budget.epochs) == (False, 0.5, 3, 7)
    assert (decided.optim.name, decided.optim.weight_decay) == ("sgd", 0)


FACTS = Facts("image", 5000, 500, 1.0, "convolutional", 10**6, has_weights=False)


@pytest.mark.parametrize(("n", "batch"), [(60, 16), (3500, 64), (54000, 128)])
def test_the_batch_leaves_about_fifty_steps_of_small_data(n: int, batch: int) -> None:
    assert decide(Config(), dataset(), replace(FACTS, samples=n)).config.batch == batch


def test_validation_takes_a_small_part_of_an_epoch_of_windows() -> None:
    """Whole images beside windows: few where there are few windows, and all where that costs little."""
    few = replace(FACTS, samples=28, val_samples=9, windows=True, positions=512**2)
    config = Config(augment=AugmentConfig(window=256))
    assert standard(few, config).val_samples == 2
    assert standard(replace(few, samples=400, val_samples=100), config).val_samples == 25
    assert standard(replace(few, samples=400, val_samples=9), config).val_samples is None


@pytest.mark.parametrize("recipe", ["standard", "quick"])
def test_fewer_samples_are_seen_more_often(recipe: str) -> None:
    config = Config(recipe=recipe)
    epochs = [
        decide(config, dataset(), replace(FACTS, samples=n)).config.budget.epochs for n in (100, 3_000, 30_000, 10**6)
    ]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] > epochs[-1] >= 3


def test_a_shift_of_a_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"augment\.shift"):
        decided_for(Config(augment=AugmentConfig(shift=1)), dataset(shape=(4,), kind="table"))


def test_the_first_layer_that_is_not_finite_is_named() -> None:
    module = build_model("conv(4,3) relu fc(2)", (1, 8, 8), 2)
    x = torch.ones(2, 1, 8, 8)

    def first(inputs: torch.Tensor) -> str:
        return locate_nonfinite(module, inputs, torch.no_grad()(lambda: module(inputs))).words

    assert "NaN or Inf" in first(x * float("nan"))
    with torch.no_grad():
        module.conv1.weight.fill_(1.0)
        module.fc1.bias.fill_(3e38)
        module.fc1.weight.fill_(3e38)
    assert "fc1" in first(x)
    with torch.no_grad():
        module.conv1.weight[0, 0, 0, 0] = float("inf")
    assert "parameter conv1.weight" in first(x)


def test_a_request_on_top_of_a_config_opens_what_follows_from_it(tmp_path) -> None:
    decided = with_fields(
        Config(), {"data.source": "a", "data.fingerprint": "x", "budget.epochs": 3, "budget.steps": 30}
    )
    assert merge_request(decided, fields={}) == decided
    assert merge_request(decided, epochs=5, fields={}).budget.steps is None
    assert merge_request(decided, minutes=5, fields={}).budget.epochs is None
    assert merge_request(decided, fields={"batch": 9}).budget.steps is None
    other = merge_request(decided, data="b", fields={})
    assert (other.data.source, other.data.fingerprint, other.budget.steps) == ("b", None, None)
    assert merge_request(decided, size="32x48", fields={}).data.size == (32, 48)
    assert merge_request(decided, size=(32, 48), fields={}).data.size == (32, 48)
    assert merge_request(decided, size="32", fields={}).data.size == (32, 32)
    assert read_config({"optim": {"lr": 0.5}}).optim.lr == 0.5
    assert DataConfig().source == "mnist5k"


def renamed(fields: dict[str, object]) -> dict[str, object]:
    return {name.replace("__", "."): value for name, value in fields.items()}


def test_weight_decay_follows_what_was_asked_for() -> None:
    def decay(**fields: object) -> float:
        return standard(FACTS, merge_request(Config(), fields=renamed(fields))).weight_decay

    usual = decay()
    assert decay(budget__epochs=80) == pytest.approx(usual / 2, rel=0.1)
    assert decay(optim__lr=0.006) == pytest.approx(usual / 2, rel=0.1)
    assert decay(batch=32) == pytest.approx(usual / 2, rel=0.1)
    assert decay(optim__name="sgd") == 5e-4


def test_only_what_was_decided_is_explained() -> None:
    deep = replace(FACTS, plain_depth=20, val_samples=20)
    assert set(standard(deep, Config()).why) == {"optim.lr", "keep"}
    decided = decide(merge_request(Config(), fields={"optim.lr": 0.1, "keep": "best"}), dataset(), deep)
    assert not any("third" in note or "last epoch" in note for note in decided.notes)
