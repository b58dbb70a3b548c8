"""Met in terse scripts: short names for loaders, losses within the step, metrics of batches, classes renamed."""

from __future__ import annotations

import ast
import textwrap
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from test_met_in_common_scripts import loader
from test_met_in_plates_and_buffers import frame_of
from test_metrics_and_targets import Embedding
from test_reward_checks import SCRIPT as DQN
from test_reward_checks import found as found_in_rewards
from test_reward_checks import values as values_of_rewards
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.label_noise import LABEL_NOISE
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.data.splits.groups_shared import GROUPS_SHARED
from striate.doctor.checks.data.splits.split_overlap import SPLIT_OVERLAP
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.eval.predicted import THRESHOLD
from striate.doctor.checks.eval.ranked_by_batch import RANKED_BY_BATCH
from striate.doctor.checks.fit.stagnation import CANNOT_OVERFIT_BATCH
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.model.detached_parameters import GRAPH_DETACHED
from striate.doctor.checks.optim.steps import MISSING_ZERO_GRAD
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.corrections import corrections
from striate.doctor.script.validation_data import find_validation
from striate.doctor.setup.batch import parts
from striate.doctor.setup.script_source import ScriptSource

TESTS = """
@torch.no_grad()
def test(net, dl):
    return [net(x) for x, _ in dl]

def trained(net, dl):
    for x, _ in dl:
        net(x).sum().backward()
"""


@pytest.mark.parametrize(("call", "is_found"), [("test(net, tl)", True), ("trained(net, tl)", False)])
def test_what_a_function_asks_without_gradients_is_validation(call: str, is_found: bool, tmp_path: Any) -> None:
    file = tmp_path / "script.py"
    file.write_text(f"{TESTS}\n{call}\n")
    made: dict[str, Any] = {"__name__": "__main__", "torch": torch}
    exec(compile(TESTS, str(file), "exec"), made)
    train, other = loader(0), loader(1)
    names = {**made, "net": perceptron(), "dl": train, "tl": other}
    asked_loop: Any = SimpleNamespace(batches=train)
    assert (find_validation(asked_loop, [frame_of(str(file), **names)], None) is other) is is_found


def masks(shift: float = 0.0, scale: float = 1.0) -> DataLoader[Any]:
    x = torch.cat([x for x, _ in digits(most=320)])
    return DataLoader(TensorDataset(x * scale + shift, (x > 0).float()), 32)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("right", [True, False])
def test_a_loss_within_the_step_tells_validation_of_another_scale(right: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    options: Any = {"step": step, "optimizer": lambda p: torch.optim.Adam(p, lr=0.02), "task": "multilabel"}
    found_there = asked(SHIFT, model, masks(), val=masks() if right else masks(0.4, 0.2), **options)
    assert [one.code for one in found_there] == ["data.shift"] * (not right)


def test_signals_have_no_light_and_dark() -> None:
    def offered(*shape: int) -> bool:
        return any("light" in way.what for way in corrections(torch.randn(8, *shape), torch.randn(8, *shape)))

    assert offered(1, 16, 16)
    assert not offered(1, 64)


class Reader(nn.Module):
    """Reads a word, and writes another one letter by letter; it is never called as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.read = nn.Embedding(20, 12), nn.GRU(12, 12, batch_first=True)
        self.write, self.say = nn.GRU(12, 12, batch_first=True), nn.Linear(12, 20)

    def encode(self, words: Tensor) -> Tensor:
        return self.read(self.letters(words))[1]

    def decode(self, words: Tensor, state: Tensor) -> Tensor:
        return self.say(self.write(self.letters(words), state)[0])


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("shifted", [True, False])
def test_letters_that_a_teacher_gives_are_those_before(shifted: bool) -> None:
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        read, written = batch
        optimizer.zero_grad()
        given = torch.cat([torch.full_like(written[:, :1], 19), written[:, :-1]], 1) if shifted else written
        said = model.decode(given, model.encode(read))
        loss = functional.cross_entropy(said.flatten(0, 1), written.flatten())
        loss.backward()
        optimizer.step()
        return loss.detach()

    words = TensorDataset(torch.randint(0, 19, (128, 9)), torch.randint(0, 19, (128, 7)))
    said = []
    with suppress(NoEvidence):
        said = asked(TARGET_IN_INPUT, Reader(), DataLoader(words, 32), step=step)
    assert [one.code for one in said] == ["data.target-in-input"] * (not shifted)


@pytest.mark.parametrize(("metric", "named"), [("f1_score", True), ("hits", False)])
def test_a_mean_of_metrics_of_batches_is_not_that_of_all(metric: str, named: bool) -> None:
    text = f"def get_score(y, predicted):\n    return {metric}(y, predicted, average='macro')\n" + SCRIPT.replace(
        "correct += (predicted == y).sum().item()", "scores.update(get_score(y, predicted), len(y))"
    )
    assert list(found(text, values(), [RANKED_BY_BATCH])) == ["eval.batch-means"] * named


@pytest.mark.parametrize(("alike", "by_plate"), [(True, False), (True, True), (False, False)])
def test_photographs_of_one_plate_lie_on_one_side(alike: bool, by_plate: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    plates = torch.arange(180) // 3
    things = torch.randn(60, 1, 8, 8, generator=generator)[plates]
    images = things + (0.1 if alike else 5.0) * torch.randn(180, 1, 8, 8, generator=generator)
    order = torch.arange(180) if by_plate else torch.randperm(180, generator=generator)
    names = {"images": images.numpy(), "plates": plates.numpy(), "labels": (plates % 2).numpy()}
    said: dict[str, str] = {}
    with suppress(NoEvidence):
        said = found(
            SCRIPT, values() | names | {"trn_idx": order[:120].numpy(), "val_idx": order[120:].numpy()}, [GROUPS_SHARED]
        )
    assert list(said) == ["data.split-overlap"] * (alike and not by_plate)


def contrastive(swapped: bool) -> Any:
    """A step on two noisy views of a batch, behind each other."""

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        optimizer.zero_grad()
        z, y = model(torch.cat([x + 0.1 * torch.randn_like(x) for _ in range(2)])), y.repeat(2)
        scores, own = z @ z.T / 0.2, torch.eye(len(z), dtype=torch.bool)
        mates = ((y[:, None] == y) ^ swapped) & ~own
        log_shares = scores - scores.masked_fill(own, -1e9).logsumexp(1, keepdim=True)
        value = -((log_shares * mates).sum(1) / mates.sum(1).clamp(min=1)).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    return step


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("swapped", [True, False])
def test_labels_belong_to_both_views_of_a_batch(swapped: bool) -> None:
    said = []
    with suppress(NoEvidence):
        said = asked(
            PAIRS_SWAPPED,
            Embedding(),
            digits(),
            step=contrastive(swapped),
            optimizer=lambda p: torch.optim.Adam(p, 3e-3),
        )
    assert [one.code for one in said] == ["loss.pairs-swapped"] * swapped


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("of_pairs", [True, False])
def test_classes_may_have_other_names_in_each_batch(of_pairs: bool) -> None:
    torch.manual_seed(0)
    x, y = next(iter(digits(64)))
    batches = [(x[rows], torch.randperm(10)[y[rows]]) for rows in (torch.randperm(64)[:32] for _ in range(8))]
    options: Any = {"step": contrastive(swapped=False)} if of_pairs else {}
    said = asked(LABEL_NOISE, Embedding() if of_pairs else perceptron(), batches, **options)
    assert [one.code for one in said] == ["data.label-noise"] * (not of_pairs)


def test_values_of_what_follows_need_no_environment_that_is_an_object() -> None:
    head, _, _ = DQN.rpartition("    if step % 500")
    assert found_in_rewards(head, values_of_rewards(env=None)) == ["reward.target-stale"]
    assert found_in_rewards(head.replace("target(s2)", "target(s)"), values_of_rewards(env=None)) == []


def test_lengths_behind_targets_are_inputs() -> None:
    lengths = torch.tensor([3, 5, 2, 4])
    places = torch.arange(5)
    words = torch.randint(1, 9, (4, 5)).masked_fill(places >= lengths[:, None], 0)
    tags = (words % 3).masked_fill(places >= lengths[:, None], -100)
    inputs, targets = parts((words, tags, lengths))
    assert inputs == (words, lengths)
    assert targets is tags
    assert parts((words, tags, lengths - 1))[1] is not tags
    assert parts((torch.randn(4, 5), torch.randn(4, 5), lengths))[1] is lengths


@pytest.mark.parametrize("left", [True, False])
def test_gradients_that_are_put_in_their_place_need_no_clearing(left: bool) -> None:
    text = (
        "for x, y in loader:\n    gradients = torch.autograd.grad(loss, parameters)\n" + "    loss.backward()\n" * left
    )

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value = loss(model(batch[0]), batch[1])
        for p, g in zip(model.parameters(), torch.autograd.grad(value, list(model.parameters())), strict=True):
            p.grad = g if p.grad is None or not left else p.grad
        optimizer.step()
        return value.detach()

    model = perceptron()
    tree = ast.parse(text)
    line = next(node for node in ast.walk(tree) if isinstance(node, ast.For))
    source = ScriptSource({"a.py": tree}, {"model": model}, ("a.py", line.lineno, line.end_lineno or 0), 1)
    options: Any = {"step": step, "loss": nn.CrossEntropyLoss(), "source": source}
    said = asked(MISSING_ZERO_GRAD, model, digits(), optimizer=torch.optim.SGD(model.parameters(), 0.05), **options)
    assert [one.code for one in said] == ["optim.missing-zero-grad"] * left


@pytest.mark.parametrize(("end", "shared"), [(400, True), (320, False)])
def test_memory_of_training_is_none_of_validation(end: int, shared: bool) -> None:
    ids = torch.arange(600)
    said = found(SCRIPT, values() | {"tr": ids[:end], "va": ids[200 if shared else 300 :][:200]}, [SPLIT_OVERLAP])
    assert list(said) == ["data.split-overlap"] * shared


def test_one_batch_is_learned_in_the_unit_of_the_step() -> None:
    x, y = next(iter(digits(64)))
    model = nn.Sequential(perceptron(), nn.ReLU(), nn.Linear(10, 1), nn.Flatten(0))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.mse_loss(model(batch[0]), (batch[1] - 45_000) / 29_000)
        value.backward()
        optimizer.step()
        return value.detach()

    train = DataLoader(TensorDataset(x, 10_000.0 * y), 32)
    options: Any = {"step": step, "task": "regress", "optimizer": lambda p: torch.optim.SGD(p, 1e-5)}
    assert asked(CANNOT_OVERFIT_BATCH, model, train, **options) == []


@pytest.mark.parametrize(("limit", "right"), [("0.0", False), ("0.5", True)])
def test_a_list_of_shares_is_held_against_a_share(limit: str, right: bool) -> None:
    text = SCRIPT.replace("predicted = outputs.argmax(dim=1)", "shares.append(torch.sigmoid(outputs))") + (
        f"    predicted = (torch.cat(shares) > {limit}).int()\n"
    )
    text = text.replace("    model.eval()\n", "    model.eval()\n    shares = []\n")
    assert list(found(text, values(), [THRESHOLD])) == ["eval.threshold"] * (not right)


@pytest.mark.parametrize(("given", "cut"), [("self.alpha, self.alpha", False), ("self.mean(x), self.width(x)", True)])
def test_a_coefficient_that_is_drawn_of_a_setting_has_no_way_back(given: str, cut: bool) -> None:
    text = textwrap.dedent(f"""
        class Module:
            def forward(self, x):
                return self.net(x)

            def training_step(self, x):
                share = torch.distributions.Beta({given}).sample()
                return self(share * x)

        for x, y in loader:
            model(x)
    """)
    assert list(found(text.lstrip(), values(), [GRAPH_DETACHED])) == ["model.graph-detached"] * cut
