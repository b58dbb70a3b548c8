"""Samples that the step blends, what is asked in one phase of a loop, sigmoids in a list, horizons within windows,
distances as scores, boxes beside other images, items that are kept for each user, rewards that are stored early; and
their twins."""

from __future__ import annotations

from types import FunctionType, SimpleNamespace
from typing import Any

import pytest
import torch
from asked import asked, perceptron
from test_met_in_vision_scripts import read
from test_reward_checks import SCRIPT as PLAYED
from test_reward_checks import found as found_by_rewards
from test_reward_checks import values as played
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from striate.doctor.checks.data.inputs.not_normalized import NOT_NORMALIZED
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.splits.repeated_samples import LEAK
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.predicted import THRESHOLD
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.checks.loss.degenerate.degenerate import DEGENERATE
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.evidence.predictions import are_blends
from striate.doctor.evidence.reading import draws_again
from striate.doctor.script.validation_data import find_validation
from striate.doctor.setup.batch import parts


def cut(x: Tensor) -> Tensor:
    mixed = x.clone()
    mixed[:, :, 2:6, 2:6] = x.flip(0)[:, :, 2:6, 2:6]
    return mixed


@pytest.mark.parametrize(
    ("change", "blended"),
    [
        (lambda x: 0.7 * x + 0.3 * x.flip(0), True),
        (cut, True),
        (lambda x: x, False),
        (lambda x: (x - 0.5) / 0.2, False),
        (lambda x: x + 0.1 * torch.randn_like(x), False),
        (lambda x: x.roll(1, -1), False),
    ],
)
def test_blends_of_samples_are_known(change: Any, blended: bool) -> None:
    x = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert are_blends(change(x), x) is blended


@pytest.mark.parametrize(("test", "right"), [("accuracy > best_accuracy", True), ("accuracy < best_accuracy", False)])
def test_the_best_may_be_asked_for_in_one_phase(test: str, right: bool) -> None:
    text = SCRIPT.replace("if accuracy > best_accuracy:", f'if phase == "val" and {test}:')
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


@pytest.mark.parametrize(("given", "right"), [("outputs", True), ("torch.sigmoid(outputs)", False)])
def test_logits_that_are_put_together_are_held_against_their_limit(given: str, right: bool) -> None:
    text = SCRIPT.replace("            predicted = outputs.argmax(dim=1)\n", f"            logits.append({given})\n")
    text = text.replace("correct += (predicted == y).sum().item()", "wanted.append(y)")
    text = text.replace(
        "    accuracy = correct / total\n",
        "    logits, wanted = torch.cat(logits).numpy(), torch.cat(wanted).numpy()\n    chosen = logits > 0\n",
    )
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * (not right)


@pytest.mark.parametrize(("shift", "within"), [(0, False), (-6, True)])
def test_a_horizon_lies_behind_its_window(shift: int, within: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    series = torch.stack([torch.randn(200, generator=generator).cumsum(0), torch.arange(200.0)], 1)
    x = torch.stack([series[i : i + 24] for i in range(6, 150)])
    y = torch.stack([series[i + 24 + shift : i + 30 + shift, 0] for i in range(6, 150)])
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 6))
    said = asked(TARGET_IN_INPUT, model, DataLoader(TensorDataset(x, y), 16), loss=nn.MSELoss())
    assert ["column 0 at times 18 to 23" in one.measured for one in said] == [True] * within


@pytest.mark.parametrize(("sign", "wrong"), [(1.0, True), (-1.0, False)])
def test_distances_of_torch_are_no_scores(sign: float, wrong: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        numbers = sign * torch.cdist(model(batch[0]), model(batch[1])) / 0.1
        numbers = numbers.masked_fill(torch.eye(len(numbers)).roll(1, 0).bool(), -1e4)
        loss = functional.cross_entropy(numbers, torch.arange(len(numbers)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    loader = DataLoader(TensorDataset(x, x + 0.1), 16)
    said = asked(SIGN, model, loader, step=step, optimizer=torch.optim.SGD(model.parameters(), 0.01))
    assert ["distances of `cdist`" in one.measured for one in said] == [True] * wrong


@pytest.mark.parametrize(("weight", "sign", "wrong"), [(0.03, 1.0, False), (1.0, -1.0, True)])
def test_rare_classes_that_hardly_count_are_no_wrong_sign(weight: float, sign: float, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(320, 6, generator=generator)
    y = (x[:, 0] > 1.8).float()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        pos_weight = torch.tensor(weight)
        return sign * functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=pos_weight)

    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    said = asked(SIGN, model, DataLoader(TensorDataset(x, y), 64), loss=loss, optimizer=optimizer)
    assert bool(said) is wrong


@pytest.mark.parametrize(("filler", "counted"), [(0, True), (-100, False)])
def test_labels_at_padding_count_though_others_do_not(filler: int, counted: bool) -> None:
    """Tags of words, of which the first of each sentence has none."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 20, (64, 10), generator=generator)
    lengths = torch.randint(3, 11, (64,), generator=generator)
    mask = torch.arange(10)[None] < lengths[:, None]
    labels = torch.where(mask, tokens % 3, filler)
    labels[:, 0] = -100

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 3))

        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            return self.layers(tokens * mask)  # type: ignore[no-any-return]

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        loss = functional.cross_entropy(model(batch[0], batch[1]).flatten(0, 1), batch[2].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    model = Tagger()
    loader = DataLoader(TensorDataset(tokens * mask, mask.long(), labels), 16)
    said = asked(PADDING_COUNTED, model, loader, step=step, optimizer=torch.optim.SGD(model.parameters(), 0.1))
    assert [one.code for one in said] == ["loss.padding-counted"] * counted


def test_what_comes_beside_pixels_is_the_target() -> None:
    pixels, box, mask = torch.zeros(2, 3, 4, 4), torch.ones(2, 4), torch.ones(2, 4)
    assert parts({"pixel_values": pixels, "box": box}) == (pixels, box)
    assert parts({"images": pixels, "attention_mask": mask}) == (pixels, pixels)


def places(apart: bool) -> DataLoader[Any]:
    """A bright spot on noise, and where it is."""
    generator = torch.Generator().manual_seed(0)
    x = 0.1 * torch.randn(320, 1, 12, 12, generator=generator)
    at = torch.randint(1, 11, (320, 2), generator=generator)
    x[torch.arange(320), 0, at[:, 0], at[:, 1]] += 3
    y = at.float() / 12
    return DataLoader(TensorDataset(x, y[torch.randperm(320, generator=generator)] if apart else y), 16, shuffle=True)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("apart", [True, False])
def test_places_beside_other_images_are_told(apart: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    said = asked(LABELS_RANDOM, model, places(apart), loss=nn.MSELoss(), optimizer=optimizer)
    assert [one.code for one in said] == ["data.labels-random"] * apart


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("times", "odd"), [(255.0, True), (1.0, False)])
def test_pixels_that_put_outputs_at_their_limits(times: float, odd: bool) -> None:
    torch.manual_seed(0)
    x, y = places(apart=False).dataset.tensors  # type: ignore[attr-defined]
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 2), nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    loader = DataLoader(TensorDataset(times * x, y), 16, shuffle=True)
    said = asked(NOT_NORMALIZED, model, loader, loss=nn.MSELoss(), optimizer=optimizer)
    assert [one.code for one in said] == ["data.not-normalized"] * odd


@pytest.mark.parametrize("trained", [True, False])
def test_an_item_that_is_kept_for_each_user_is_not_trained_on(trained: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    liked = torch.stack([torch.randperm(200, generator=generator)[:6] for _ in range(120)])
    chosen = liked if trained else liked[:, 1:]
    pairs = torch.stack([torch.arange(120).repeat_interleave(chosen.shape[1]), chosen.flatten()], 1)
    pairs = pairs[torch.randperm(len(pairs), generator=generator)]

    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.users, self.items = nn.Embedding(120, 8), nn.Embedding(200, 8)

        def forward(self, users: Tensor, items: Tensor) -> Tensor:
            return self.users(users) @ self.items(items).T

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        loss = functional.cross_entropy(model(*batch), torch.arange(len(batch[0])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    model = Towers()
    loader = DataLoader(TensorDataset(pairs[:, 0], pairs[:, 1]), 32)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    names = {"holdout": liked[:, 0]}
    said = read(
        "for users, items in loader:\n    pass\n", LEAK, model, loader, step=step, optimizer=optimizer, names=names
    )
    assert [one.code for one in said] == ["data.leak"] * trained


@pytest.mark.parametrize("early", [True, False])
def test_a_reward_is_stored_once_it_is_there(early: bool) -> None:
    stored = "    rewards[step] = reward\n"
    played_step = "    next_obs, reward, terminated, truncated, _ = env.step(action)\n"
    both = stored + played_step if early else played_step + stored
    text = PLAYED.replace(played_step, "    actions[step] = action\n" + both)
    text = text.replace("    memory.append((obs, action, reward, next_obs, terminated))\n", "")
    assert ("reward.off-by-one" in found_by_rewards(text, played())) is early


ROLLOUT = """
for update in range(100):
    with torch.no_grad():
        for t in range(8):
            policy = Categorical(logits=net(obs))
            action = policy.sample()
            kept[t] = policy.log_prob(action)
            obs, reward, done, _ = env.step(action)
    logits = net(seen)
    log_prob = {log_prob}
    loss = -(log_prob * advantage).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("taken", "cut_off"), [("kept.reshape(-1)", True), ("Categorical(logits=logits).log_prob(acted)", False)]
)
def test_a_buffer_of_log_probabilities_has_no_gradient(taken: str, cut_off: bool) -> None:
    log_prob = torch.zeros(8, requires_grad=not cut_off)
    names = played(kept=torch.zeros(8), log_prob=log_prob, advantage=torch.ones(8), seen=torch.zeros(8, 8))
    found = found_by_rewards(ROLLOUT.format(log_prob=taken), names)
    assert ("model.graph-detached" in found) is cut_off


@pytest.mark.parametrize("again", [True, False])
def test_a_loader_draws_as_its_batches_do(again: bool) -> None:
    """As those of Accelerate, whose own sampler is one in order."""
    data = TensorDataset(torch.arange(8.0))
    loader = DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data, replacement=again), 4, False))
    assert isinstance(loader.sampler, SequentialSampler)
    assert draws_again(loader) is again


def frame_of(text: str, **names: Any) -> Any:
    """Of a script whose names are these."""
    code = SimpleNamespace(co_filename=text, co_firstlineno=1, co_name="<module>")
    return SimpleNamespace(f_locals=names, f_globals=names, f_code=code, f_lineno=1)


@pytest.mark.parametrize("asked_so", ["net(normalize(x))", "net(x)"])
def test_tensors_for_validation_are_what_the_network_is_given(
    asked_so: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "script.py"
    file.write_text(f"for x, y in zip(X_test.split(8), y_test.split(8)):\n    {asked_so}\n")
    made: dict[str, Any] = {"__name__": "__main__"}
    exec("def normalize(x):\n    return (x - 0.5) / 0.1\n", made)
    assert isinstance(made["normalize"], FunctionType)
    x = 0.5 + 0.1 * torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    names = {"X_test": x, "y_test": torch.zeros(40).long(), "net": perceptron(), "normalize": made["normalize"]}
    loop_found: Any = SimpleNamespace(batches=[(torch.zeros(8, 1, 8, 8), torch.zeros(8))])
    val = find_validation(loop_found, [frame_of(str(file), **names)], (x[:8] - 0.5) / 0.1)
    mean = float(val.dataset.tensors[0].mean())
    assert abs(mean - (0.0 if "normalize" in asked_so else 0.5)) < 0.1


def test_data_of_a_development_set_are_scaled_before_they_are_asked(tmp_path: Any) -> None:
    file = tmp_path / "folds.py"
    file.write_text("scaler = Scaler().fit(X_dev[tr])\nx = scaler.transform(X_dev[tr])\nfolds = Folds().split(X_dev)\n")
    names = {"X_dev": torch.randn(40, 8), "y_dev": torch.zeros(40)}
    loop_found: Any = SimpleNamespace(batches=[(torch.zeros(8, 8), torch.zeros(8))])
    found_there = find_validation(loop_found, [frame_of(str(file), **names)], torch.zeros(8, 8))
    tensors = getattr(getattr(found_there, "dataset", None), "tensors", ())  # of any loader that is around, if not None
    assert all(tensor is not names["X_dev"] for tensor in tensors)


@pytest.mark.parametrize(("maximize", "endless"), [(True, False), (False, True)])
def test_a_loss_turned_round_for_an_optimizer_that_maximizes_is_none_without_end(maximize: bool, endless: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        loss = functional.mse_loss(model(batch[0]), batch[1])
        optimizer.zero_grad()
        (-loss).backward()
        optimizer.step()
        return -loss.detach()

    x = torch.randn(128, 6, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, maximize=maximize)
    loader = DataLoader(TensorDataset(x, x[:, :1]), 16)
    assert bool(asked(DEGENERATE, model, loader, step=step, optimizer=optimizer)) is endless


@pytest.mark.parametrize(("share", "never"), [("share_at(step)", False), ("0.0", True)])
def test_a_share_of_random_actions_is_what_calls_give(share: str, never: bool) -> None:
    chosen = "def choose(net, obs, epsilon):\n    if random.random() < epsilon:\n        return 0\n"
    chosen += "    return net(obs).argmax()\n"
    asked_first = "def evaluate(net):\n    return choose(net, obs, epsilon=0.0)\n"
    text = PLAYED.replace("    epsilon = max(0.05, 1 - step / 2000)\n", "")
    before, _, after = text.partition("    if random.random() < epsilon:\n")
    behind = after[after.index("    next_obs, reward") :]
    text = chosen + asked_first + before + f"    action = choose(net, obs, {share})\n" + behind
    assert ("reward.no-exploration" in found_by_rewards(text, played(epsilon=0.0))) is never
