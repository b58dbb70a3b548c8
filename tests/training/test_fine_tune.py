"""Fine-tuning: the head first, then all, each layer slower than the next; and a run that begins with a file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

import striate
from striate.api import resume, train_config
from striate.errors import ConfigError, ModelError
from striate.models.build import build_model
from striate.runs.checkpoint import load_checkpoint, save_checkpoint
from striate.runs.directory import create_run, seen_text
from striate.runs.files import write_text
from striate.training import session
from striate.training.config import Config, FineTuneConfig, OptimizerConfig
from striate.training.config_file import config_from_yaml, config_to_yaml, with_fields
from striate.training.events import Event, StepDone
from striate.training.head_warm_up import head_steps, training_mode
from striate.training.interruption import Interrupted
from striate.training.loop import training_events
from striate.training.optimizers import make_optimizer, set_learning_rate
from striate.training.prepare import Prepared, prepare
from striate.training.request import merge_request, read_config
from striate.training.saving import Saver

NETWORK = "conv(4,3) bn relu dropout(0.3) pool(2) conv(6,3) bn relu fc(3)"
OPTIMIZERS = ["sgd", "adamw", "muon", "lamb", "lars"]


def state_file(path: str = "some.pt", outputs: int = 5) -> dict[str, torch.Tensor]:
    """Weights of NETWORK for other outputs, with statistics of a normalization that has seen something."""
    torch.manual_seed(7)
    module = build_model(NETWORK.replace("fc(3)", f"fc({outputs})"), (3, 16, 16), outputs).train()
    module(torch.randn(8, 3, 16, 16))
    tensors = {key: value.clone() for key, value in module.state_dict().items()}
    torch.save(tensors, path)
    return tensors


def config_for(data: Path, epochs: int = 4, **fields: object) -> Config:
    base = {
        "model.name": NETWORK,
        "model.weights": "some.pt",
        "batch": 8,
        "augment.shift": 2,
        "fine_tune.head_share": 0.5,
    }
    return merge_request(read_config(None), data=str(data), epochs=epochs, fields=base | fields)


def train_quietly(config: Config, out: str) -> None:
    train_config(config, out=Path(out), console=Console(stderr=True), quiet=True)


def save_run(config: Config, out: str) -> None:
    """A run directory with one checkpoint, as it is before the first step."""
    prepared = prepare(config)
    run = create_run(Path(out), "")
    write_text(run.config, config_to_yaml(prepared.config))
    save_checkpoint(run.best, prepared.checkpoint())


def trunk(module: nn.Module) -> dict[str, torch.Tensor]:
    """All tensors but those of the output layer, statistics of normalization among them."""
    return {key: value.clone() for key, value in module.state_dict().items() if not key.startswith("fc1")}


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_trunk_is_bit_equal_until_its_share_of_the_steps_is_over(photos, optimizer) -> None:
    state_file()
    prepared = prepare(config_for(photos(), **{"optim.name": optimizer, "regularize.l2": 0.01}))
    module, until = prepared.state.module, head_steps(prepared.config)
    assert until == round(0.5 * prepared.config.budget.steps) > 2
    before, head = trunk(module), module.fc1.weight.clone()
    heads, trunks = [], []
    for event in events_of(prepared):
        if isinstance(event, StepDone):
            now = trunk(module)
            trunks.append(all(torch.equal(now[key], before[key]) for key in now))
            heads.append(torch.equal(module.fc1.weight, head))
    assert trunks[:until] == [True] * until
    assert trunks[until:] == [False] * (prepared.config.budget.steps - until)
    assert not any(heads[1:])
    assert all(p.requires_grad for p in module.parameters())
    changed = trunk(module)
    assert [key for key in changed if torch.equal(changed[key], before[key])] == []


def test_weights_of_the_file_are_what_the_run_begins_with(photos) -> None:
    tensors = state_file()
    prepared = prepare(config_for(photos()))
    begun = trunk(prepared.state.module)
    assert all(torch.equal(begun[key], tensors[key]) for key in begun)
    assert "weights of some.pt; the last layer is new: 3 classes instead of 5" in prepared.notes


def small() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    module[0].bias.requires_grad_(False)
    return module


def test_nothing_stays_frozen_after_an_exception_but_what_was_before() -> None:
    module, config = small(), with_steps(0.5, 10)

    def fail() -> None:
        with training_mode(module, config) as set_mode:
            set_mode(0)
            assert [p.requires_grad for p in module.parameters()] == [False] * 4 + [True] * 2
            assert [m.training for m in module] == [False, False, True]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [p.requires_grad for p in module.parameters()] == [True, False] + [True] * 4


def test_the_step_opens_and_closes_the_trunk() -> None:
    module, config = small(), with_steps(0.3, 10)
    with training_mode(module, config) as set_mode:
        for step in (0, 2, 3, 9, 1):  # 1: as in a run that goes on from within the first share
            set_mode(step)
            assert module[1].training is module[0].weight.requires_grad is (step >= 3)
            assert module[2].training


def test_without_a_share_or_a_layer_to_begin_with_all_learns() -> None:
    for module, share in [(small(), 0.0), (nn.Sequential(nn.BatchNorm1d(3)), 0.5)]:
        with training_mode(module, with_steps(share, 10)) as set_mode:
            set_mode(0)
            assert module.training
            assert any(p.requires_grad for p in module[0].parameters())
            assert all(m.training for m in module.modules())


def with_steps(share: float, steps: int) -> Config:
    config = Config(fine_tune=FineTuneConfig(head_share=share))
    return replace(config, budget=replace(config.budget, steps=steps))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_rates_fall_with_depth(optimizer) -> None:
    module = build_model("conv(4,3) bn relu conv(4,3) relu fc(6) relu fc(3)", (1, 9, 9), 3)
    config = Config(optim=OptimizerConfig(optimizer, 0.1, 0.01), fine_tune=FineTuneConfig(layer_decay=0.5))
    made = make_optimizer(module, config)
    set_learning_rate(made, 0.1)
    rates = {id(p): group["lr"] for group in made.param_groups for p in group["params"]}
    by_layer = {name: rates[id(p)] for name, p in module.named_parameters()}
    expected = {"conv1": 0.0125, "bn1": 0.0125, "conv2": 0.025, "fc1": 0.05, "fc2": 0.1}
    assert by_layer == {name: pytest.approx(expected[name.split(".")[0]]) for name in by_layer}
    assert len(by_layer) == 10


def test_a_smaller_rate_moves_a_deep_layer_less() -> None:
    def moved(decay: float) -> list[float]:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
        before = [layer.weight.clone() for layer in module]
        config = Config(optim=OptimizerConfig("adamw", 0.01, 0.0), fine_tune=FineTuneConfig(layer_decay=decay))
        made = make_optimizer(module, config)
        set_learning_rate(made, 0.01)
        module(torch.randn(8, 4)).square().sum().backward()
        made.step()
        return [float((layer.weight - b).detach().abs().mean()) for layer, b in zip(module, before, strict=True)]

    even, decayed = moved(1.0), moved(0.1)
    assert decayed == pytest.approx([even[0] / 100, even[1] / 10, even[2]], rel=1e-3)


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("step", [2, 5])
def test_a_run_cut_within_or_after_the_first_share_goes_on_bit_for_bit(photos, optimizer: str, step: int) -> None:
    state_file()
    config = config_for(photos(), 2, **{"optim.name": optimizer, "optim.ema": 0.5})  # 8 steps, the first 4 for the head
    whole = prepare(config)
    for event in events_of(whole):
        if isinstance(event, StepDone) and event.step == step:
            save_checkpoint(Path("cut.pt"), whole.checkpoint())
    assert whole.state.step == 8
    Path("some.pt").unlink()
    torch.manual_seed(999)
    cut = prepare(whole.config, checkpoint=Path("cut.pt"))
    cut.state.restore(load_checkpoint(Path("cut.pt")))
    for _ in events_of(cut):
        pass
    one, two = whole.state.to_dict(), cut.state.to_dict()
    assert all(torch.equal(one[kind][key], two[kind][key]) for kind in ("model", "ema") for key in one["model"])
    assert whole.normalization == cut.normalization


def events_of(prepared: Prepared) -> Iterator[Event]:
    return training_events(prepared.state, prepared.objective, prepared.splits, prepared.config, prepared.normalize)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_without_its_file(photos, monkeypatch) -> None:
    state_file()
    config = config_for(photos(), 2)
    train_quietly(config, "whole")
    cut_after(monkeypatch, 2, lambda: train_quietly(config, "cut"))
    Path("some.pt").unlink()
    resume("cut", quiet=True)
    one, two = (load_checkpoint(Path(run) / "checkpoints/last.pt") for run in ("whole", "cut"))
    assert one["step"] == two["step"] == 8
    assert all(torch.equal(one["model"][key], two["model"][key]) for key in one["model"])
    assert striate.load("cut").predict("photos/red/000.png").label in ("red", "green", "blue")


def cut_after(monkeypatch: pytest.MonkeyPatch, step: int, train: Callable[[], None]) -> None:
    """Interrupt a training when a step is done, as a signal does."""
    original = session.training_events

    def events(*arguments: object):
        for event in original(*arguments):
            yield event
            if isinstance(event, StepDone) and event.step == step:
                raise Interrupted(Path("cut"), Config(), "SIGINT")

    with monkeypatch.context() as patch:
        patch.setattr(session, "training_events", events)
        patch.setattr(Saver, "due", lambda *_, **__: True)
        with pytest.raises(Interrupted):
            train()


@pytest.mark.slow
def test_without_a_checkpoint_a_run_starts_over_and_needs_the_same_file(photos, monkeypatch) -> None:
    state_file()
    with monkeypatch.context() as patch:
        patch.setattr(session, "training_events", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError):
            train_quietly(config_for(photos(), 2), "cut")
    Path("some.pt").rename("kept.pt")
    with pytest.raises(ModelError, match="no such file"):
        resume("cut", quiet=True)
    state_file("some.pt", outputs=4)
    with pytest.raises(ModelError, match="has changed since the run was started"):
        resume("cut", quiet=True)
    Path("kept.pt").replace("some.pt")
    assert resume("cut", quiet=True).metrics["epochs"] == 2


def test_the_saved_configuration_runs_again_and_gives_the_same_bits(photos) -> None:
    state_file()
    one = prepare(config_for(photos(), 2))
    Path("config.yaml").write_text(config_to_yaml(one.config))
    saved = config_from_yaml(Path("config.yaml"))
    assert saved.recipe == "fine-tune"
    assert Path(saved.model.weights or "") == Path("some.pt").absolute()
    assert len(saved.model.weights_digest or "") == 64
    assert saved.fine_tune.layer_decay is not None
    two = prepare(saved)
    assert two.config == one.config
    for prepared in (one, two):
        for _ in events_of(prepared):
            pass
    first, second = one.state.module.state_dict(), two.state.module.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_other_weights_on_top_of_a_saved_configuration(photos) -> None:
    state_file()
    save_run(config_for(photos(), 1), "one")
    state_file("other.pt", outputs=4)
    merged = merge_request(config_from_yaml(Path("one/config.yaml")), fields={"model.weights": "other.pt"})
    assert merged.model.weights_digest is None
    assert "weights of other.pt; the last layer is new: 3 classes instead of 4" in prepare(merged).notes
    without = merge_request(merged, fields={"model.weights": None, "fine_tune.head_share": None})
    assert prepare(without).config.recipe == "standard"


def test_the_standard_recipe_is_used_with_weights_when_it_is_named(photos) -> None:
    state_file()
    config = config_for(photos(), 1)
    assert prepare(config).config.recipe == "fine-tune"
    named = prepare(with_fields(config, {"recipe": "standard"})).config
    assert (named.recipe, "recipe" in named.decided) == ("standard", False)


@pytest.mark.parametrize("fields", [{"fine_tune.head_share": 0.3}, {"fine_tune.layer_decay": 0.9}])
def test_fields_of_fine_tuning_are_refused_for_random_weights(photos, fields) -> None:
    base = {"model.name": NETWORK}
    with pytest.raises(ConfigError, match="a network with random weights") as caught:
        prepare(merge_request(read_config(None), data=str(photos()), fields=base | fields))
    assert caught.value.where == next(iter(fields))
    with pytest.raises(ConfigError, match="random weights"):
        prepare(merge_request(read_config(None), data="photos", fields=base | {"recipe": "fine-tune"}))
    # What recipes decide for them, and config.yaml says, is no wish.
    again = prepare(merge_request(read_config(None), data="photos", fields=base)).config
    assert (again.fine_tune.head_share, again.fine_tune.layer_decay) == (0.0, 1.0)
    assert prepare(again).config == again


def test_first_weights_beside_a_file_are_refused(photos) -> None:
    state_file()
    with pytest.raises(ConfigError, match="he-normal"):
        prepare(config_for(photos(), **{"model.init": "he-normal"}))


def test_a_module_given_in_python_is_fine_tuned_when_asked(photos) -> None:
    def config(**fields: object) -> Config:
        return merge_request(read_config(None), data=str(Path("photos")), epochs=10, fields=fields)

    photos()
    module = build_model(NETWORK, (3, 16, 16), 3)
    assert prepare(config(), module).config.recipe == "standard"
    assert prepare(config(recipe="fine-tune"), module).config.fine_tune.head_share
    tensors = state_file(outputs=3)
    prepared = prepare(config(**{"model.weights": "some.pt"}), module)
    assert prepared.config.recipe == "fine-tune"
    assert torch.equal(module.state_dict()["fc1.weight"], tensors["fc1.weight"])


def test_a_run_brings_its_network_and_its_standardization(photos) -> None:
    save_run(merge_request(read_config(None), data=str(photos()), epochs=1, fields={"model.name": NETWORK}), "first")
    shutil.copytree("photos", "dark")
    shutil.rmtree("dark/green")
    for fields in ({"model.weights": "first"}, {"model.name": "first"}):
        prepared = prepare(merge_request(read_config(None), data="dark", fields=fields))
        model = prepared.config.model
        assert (model.name, model.weights) == (NETWORK.replace("fc(3)", "fc(2)"), str(Path("first").absolute()))
        assert prepared.config.recipe == "fine-tune"
        saved = load_checkpoint(Path("first/checkpoints/best.pt"))["normalization"]
        assert list(prepared.normalization.mean) == saved["mean"]
        assert "inputs are standardized as in the training of first" in prepared.notes
    state_file()
    measured = prepare(
        merge_request(read_config(None), data="dark", fields={"model.name": NETWORK.replace("3)", "2)")})
    )
    assert list(measured.normalization.mean) != saved["mean"]


def test_held_out_samples_that_the_weights_have_learned_from_are_a_finding(photos) -> None:
    config = merge_request(read_config(None), data=str(photos()), epochs=1, fields={"model.name": NETWORK})
    save_run(config, "first")
    data = prepare(config).data
    seen = [*data.contents["train"], *data.contents["test"][:2]]
    Path("first/seen.txt").write_text("".join(f"{digest}\n" for digest in seen))
    for path in ("first", "first/checkpoints/best.pt"):
        (finding,) = prepare(merge_request(config, fields={"model.weights": path, "model.name": "auto"})).findings
        held = len(data.contents["val"]) + len(data.contents["test"])
        assert (finding.code, finding.severity) == ("data.leak", "warning")
        assert finding.measured == f"2 of {held} samples were in the training split of {path}"


def test_weights_that_were_only_chosen_on_what_is_held_out_give_nothing_away(photos) -> None:
    config = merge_request(read_config(None), data=str(photos()), epochs=1, fields={"model.name": NETWORK})
    save_run(config, "first")
    first = prepare(config).data.contents
    Path("first/seen.txt").write_text(seen_text(first["train"], first["val"]))
    weights = {"model.weights": "first", "model.name": "auto"}
    assert prepare(merge_request(config, fields=weights)).findings == ()
    # Under another seed of the splits some of the training samples are held out.
    other = prepare(merge_request(config, fields=weights | {"data.split_seed": 1}))
    learned = frozenset(first["train"])
    held = [digest for name in ("val", "test") for digest in other.data.contents[name]]
    (finding,) = other.findings
    count = sum(digest in learned for digest in held)
    assert 0 < count < sum(digest in {*learned, *first["val"]} for digest in held)
    assert finding.measured == f"{count} of {len(held)} samples were in the training split of first"


def test_color_weights_on_gray_images_are_standardized_as_their_mean(photos) -> None:
    save_run(merge_request(read_config(None), data=str(photos()), epochs=1, fields={"model.name": NETWORK}), "first")
    fields = {"model.weights": "first", "data.channels": 1}
    prepared = prepare(merge_request(read_config(None), data="photos", fields=fields))
    saved = load_checkpoint(Path("first/checkpoints/best.pt"))["normalization"]
    assert prepared.normalization.mean == (pytest.approx(sum(saved["mean"]) / 3),)
    assert prepared.normalization.std == (pytest.approx(sum(saved["std"]) / 3),)


def test_two_things_that_bring_weights_are_refused(photos) -> None:
    state_file()
    save_run(merge_request(read_config(None), data=str(photos()), epochs=1, fields={"model.name": NETWORK}), "first")
    with pytest.raises(ConfigError) as caught:
        prepare(config_for(Path("photos"), **{"model.name": "first"}))
    assert f'--model "{NETWORK}"' in caught.value.remedy


@pytest.mark.slow
def test_a_bare_file_without_a_network_names_what_it_fits(photos) -> None:
    torch.save(build_model("small-cnn", (3, 16, 16), 9).state_dict(), "some.pt")
    with pytest.raises(ModelError) as caught:
        prepare(config_for(photos(), **{"model.name": "auto"}))
    assert caught.value.remedy == "--model small-cnn, which they fit"
    with pytest.raises(ModelError) as caught:
        prepare(config_for(Path("photos")))
    assert caught.value.remedy == "--model small-cnn, which the file fits"
    state_file()
    with pytest.raises(ModelError) as caught:
        prepare(config_for(Path("photos"), **{"model.name": "auto"}))
    assert "--model NAME" in caught.value.remedy


def test_a_function_whose_outputs_are_others_gets_a_new_head(photos) -> None:
    Path("nets.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 99)\n"
        "    return nn.Sequential(*layers)\n"
    )
    torch.save({"state_dict": build_model("nets.py:build").state_dict()}, "some.pt")
    with pytest.raises(ModelError, match="99 outputs"):
        prepare(merge_request(read_config(None), data=str(photos()), fields={"model.name": "nets.py:build"}))
    save_run(config_for(Path("photos"), 1, **{"model.name": "nets.py:build"}), "run")
    assert striate.load("run").predict("photos/red/000.png").label in ("red", "green", "blue")
    # And its run is again a network to begin from.
    shutil.rmtree("photos/green")
    prepared = prepare(merge_request(read_config(None), data="photos", fields={"model.weights": "run"}))
    assert "each class with its row of the last layer; dropped: green" in " ".join(prepared.notes)


def test_a_module_that_comes_with_weights_takes_no_others(photos) -> None:
    module = build_model(NETWORK, (3, 16, 16), 3)
    fields = {"model.weights": None, "recipe": "fine-tune", "model.init": "he-normal"}
    with pytest.raises(ConfigError, match="a module with pretrained weights") as caught:
        prepare(config_for(photos(), **fields), module)
    assert caught.value.where == "model.init"
    plain = {"recipe": "standard", "fine_tune.head_share": None, "fine_tune.layer_decay": None}
    prepare(config_for(Path("photos"), **fields | plain), module)


@pytest.mark.slow
def test_an_error_about_the_weights_of_a_module_speaks_of_no_name(photos) -> None:
    state_file()
    data, given = photos(), {"model.name": "auto"}
    with pytest.raises(ModelError) as caught:
        prepare(config_for(data, **given), build_model("conv(5,3) relu fc(3)", (3, 16, 16), 3))
    assert "auto" not in str(caught.value)


class Shifted(nn.Module):
    """Has no layer with a kernel or matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) + self.shift


def test_a_head_that_is_not_there_cannot_learn_first(photos) -> None:
    fields = {"model.weights": None, "recipe": "fine-tune"}
    with pytest.raises(ConfigError, match="without an output layer") as caught:
        prepare(config_for(photos(), **fields | {"fine_tune.head_share": 0.2}), Shifted())
    assert caught.value.where == "fine_tune.head_share"
    decided = prepare(config_for(Path("photos"), **fields | {"fine_tune.head_share": None}), Shifted()).config
    assert prepare(decided, Shifted()).config == decided, "what the recipe decided is no wish, and runs again"
