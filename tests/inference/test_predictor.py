"""Which way is taken: never for short jobs, never one whose answers differ, and the same one the next time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_networks import SHAPE, TASK, network, packs_bf16, samples
from torch import nn

from striate.errors import UsageError
from striate.inference import choose
from striate.inference import predictor as planning
from striate.inference.openvino_network import openvino_installed
from striate.inference.plan import PLAIN, Backend, plan_from_json
from striate.inference.plan_key import network_digest
from striate.inference.predictor import batch_size, inference, plan_predictor
from striate.tasks.regress.task import Regress

BF16 = Backend("torch", "bf16", "channels_last", True)


@pytest.fixture(autouse=True)
def longer_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any job is long enough to look for a way, all ways are as fast as the order in which they are tried says, and
    plans are kept in the test's own folder."""
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(planning, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(choose, "_SEARCH_SHARE", 1e9)
    monkeypatch.setattr(choose, "bf16_on_cpu", lambda: True)
    monkeypatch.setattr(choose, "bf16_pays_on_cpu", lambda: True)
    rates = iter(range(1, 1000))
    monkeypatch.setattr(choose, "_rates", lambda *_: (float(next(rates)) * 2, 1.0, 1.0))


def plan(module: nn.Module, **options: object) -> planning.Predictor:
    arguments = {"total": 2000, "batch": 64, "task": TASK, "sample": samples} | options
    return plan_predictor(module, arguments.pop("task"), arguments.pop("sample"), **arguments)


@packs_bf16
def test_the_fastest_way_that_agrees_is_taken_and_answers() -> None:
    module, x = network(), samples(9)
    found = plan(module)
    assert found.plan.backend == BF16
    precisions = [tried.backend.precision for tried in found.plan.tried if tried.backend.engine == "torch"]
    assert precisions == ["bf16"]  # twice as fast as plain: fp32 is not looked at
    chosen = found.plan.chosen
    assert chosen is not None
    assert chosen.agreement is not None
    assert chosen.agreement.samples == 200
    assert chosen.agreement.equal >= 0.995
    with inference(found) as answer:
        outputs = answer(x)
        assert torch.allclose(outputs, module(x), atol=0.05)
        assert not torch.equal(outputs, module(x))  # or it would not be bf16
    assert "bf16, channels_last, fused" in found.plan.line()
    assert "of 200 predictions equal to those of fp32" in found.plan.line()


def test_a_few_hundred_are_computed_in_fp32_by_other_kernels_after_a_look_at_eight() -> None:
    module = network()
    found = plan(module, total=999)
    assert found.plan.backend == Backend("torch", "fp32", "channels_last", True)
    assert [tried.backend.precision for tried in found.plan.tried] == ["fp32"]
    assert found.plan.chosen.agreement.samples == 8
    with inference(found) as answer:
        assert torch.allclose(answer(samples(5)), module(samples(5)), rtol=1e-3, atol=1e-5)


def test_other_kernels_that_compute_something_else_are_not_taken_for_a_few_hundred(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = nn.Conv2d(3, 4, 12)
    monkeypatch.setattr(choose, "prepare_backend", lambda *_: lambda x: other(x).flatten(1))
    found = plan(nn.Sequential(nn.Conv2d(3, 4, 12), nn.Flatten()).eval(), total=999)
    assert found.plan.backend == PLAIN
    assert "more than rounding" in found.plan.tried[0].refused


class Cancelling(nn.Module):
    """Right in fp32, and nearly all lost in eight bits of mantissa."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((self.conv(x) + 512) - 512).flatten(1)


@packs_bf16
def test_a_network_whose_answers_change_in_bf16_is_answered_in_fp32() -> None:
    torch.manual_seed(0)
    found = plan(Cancelling().eval())
    refused = [
        tried for tried in found.plan.tried if tried.backend.precision == "bf16" and tried.backend.engine == "torch"
    ]
    assert len(refused) == 2  # whole in bf16, and by autocast
    assert all("of the predictions" in tried.refused or "move" in tried.refused for tried in refused)
    assert found.plan.backend.precision == "fp32"


def test_numbers_that_change_are_refused_too() -> None:
    torch.manual_seed(0)
    task = Regress(("a", "b", "c", "d"), (0.0,) * 4, (1.0,) * 4)
    found = plan(Cancelling().eval(), task=task)
    assert found.plan.backend.precision == "fp32"
    assert any("predictions move by" in tried.refused for tried in found.plan.tried)


class Stochastic(nn.Module):
    """Draws random numbers when it answers, so that no two ways agree."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.conv(x).flatten(1), 0.5, training=True)


def test_a_network_that_answers_by_chance_stays_plain_and_the_random_state_stays_too() -> None:
    module = Stochastic().eval()
    state = torch.random.get_rng_state()
    found = plan(module)
    assert found.plan.backend == PLAIN
    assert found.plan.line() == ""
    assert torch.equal(state, torch.random.get_rng_state())


class SizeBound(nn.Module):
    """Right for the number of samples that it was first read with alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = int(x.shape[0])
        return self.conv(x).reshape(count, 4)


def test_a_network_read_for_one_size_only_is_right_for_all() -> None:
    found = plan(SizeBound().eval())
    with inference(found) as answer:
        assert answer(samples(5)).shape == (5, 4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mode": "plain"}, "requested"),
        ({"total": 127}, "127 samples are too few"),
        ({"sample": lambda _: samples(3)[:0]}, "no sample can be read"),
        ({"sample": lambda count: samples(min(count, 150))}, "only 150 samples to compare"),
    ],
)
def test_what_is_answered_plainly_says_why(options: dict[str, object], reason: str) -> None:
    module = network()
    found = plan(module, **options)
    assert found.network is module
    assert found.plan.backend == PLAIN
    assert reason in found.plan.reason


def test_a_short_job_is_done_plainly_without_a_look_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "LEAST_SECONDS", 1e9)
    asked: list[int] = []

    def sample(count: int) -> torch.Tensor:
        asked.append(count)
        return samples(count)

    assert "s of work are too short" in plan(network(), sample=sample).plan.reason
    assert asked == [32]
    asked.clear()
    plan(network(), sample=sample, total=10)
    assert asked == []


def test_a_plan_is_kept_for_the_same_weights_and_looked_for_anew_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    module = network()
    first = plan(module)

    def never(*_: object) -> None:
        raise AssertionError("looked for a way again")

    monkeypatch.setattr(planning, "choose_backend", never)
    again = plan(network())
    assert again.plan.cached
    assert again.plan.backend == first.plan.backend
    assert [row.backend for row in again.plan.tried] == [row.backend for row in first.plan.tried]
    assert again.plan.line() == first.plan.line()
    with inference(again) as answer, inference(first) as same:
        assert torch.equal(answer(samples(5)), same(samples(5)))
    with torch.no_grad():
        module[-1].bias += 1
    with pytest.raises(AssertionError, match="again"):
        plan(module)


@pytest.mark.parametrize(("first", "then"), [(1e9, 0.0), (0.0, 1e9)], ids=["short at first", "long at first"])
def test_what_was_found_for_as_many_samples_holds_however_long_they_now_seem_to_take(
    monkeypatch: pytest.MonkeyPatch, first: float, then: float
) -> None:
    monkeypatch.setattr(planning, "LEAST_SECONDS", first)
    before = plan(network()).plan.backend
    monkeypatch.setattr(planning, "LEAST_SECONDS", then)
    assert plan(network()).plan.backend == before
    assert (before == PLAIN) is (first > 0)
    assert (plan(network(), total=3000).plan.backend == PLAIN) is (then > 0)  # of so many nothing is known


def test_a_weight_far_down_a_large_tensor_is_another_weight_too() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 12), nn.Flatten(), nn.Linear(4, 30_000)).eval()
    before = network_digest(module, weights=True)
    assert network_digest(module, weights=True) == before
    with torch.no_grad():
        module[-1].weight[-1, -1] += 1
    after = network_digest(module, weights=True)
    assert after != before
    module.register_buffer("scale", torch.ones(1), persistent=False)
    assert network_digest(module, weights=True) != after


class Doubtful(nn.Module):
    """Right in bf16 for small inputs, and nearly all lost in it for large ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.far(x, self.conv(x))

    @staticmethod
    def far(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        far = 3 * x.abs().amax((1, 2, 3), keepdim=True).to(y.dtype) ** 4
        return ((y + far) - far).flatten(1)


def test_a_kept_way_is_compared_again_on_the_data_at_hand() -> None:
    torch.manual_seed(0)
    module = Doubtful().eval()
    small, large = (lambda count: samples(count) * 0.01), samples
    first = plan(module, sample=small)
    assert first.plan.backend.precision == "bf16"
    others = plan(module, sample=lambda count: small(count + 1)[1:], total=8000)
    assert others.plan.cached
    assert others.plan.chosen is not None
    assert others.plan.chosen.agreement is not None
    assert others.plan.chosen.agreement.samples == 400
    assert "of 400 predictions" in others.plan.line()
    refused = plan(module, sample=large)
    assert not refused.plan.cached
    assert refused.plan.backend.precision == "fp32"
    assert plan(module, sample=small).plan.backend.precision == "fp32"  # what failed once is not trusted again


def test_a_cached_backend_is_not_taken_for_a_network_whose_forward_is_another() -> None:
    torch.manual_seed(0)
    right = nn.Sequential(nn.Conv2d(3, 4, 12)).eval()
    other = type("Sequential", (nn.Sequential,), {"forward": lambda self, x: Doubtful.far(x, self[0](x))})(right[0])
    other.eval()
    assert str(other) == str(right)
    assert network_digest(other, weights=True) != network_digest(right, weights=True)
    assert plan(right).plan.backend.precision == "bf16"
    assert plan(right).plan.cached
    found = plan(other)
    assert not found.plan.cached
    assert found.plan.backend.precision == "fp32"


@packs_bf16
def test_no_figure_of_other_data_is_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = plan(Cancelling().eval())
    assert any(tried.differs for tried in found.plan.tried)
    files = list((tmp_path / "cache" / "plans").iterdir())
    assert files
    for file in files:
        kept = json.loads(file.read_text(encoding="utf-8"))["plan"]["tried"]
        assert all(row["agreement"] is None for row in kept)
        assert sum(row["refused"] == "its predictions differed from those of fp32" for row in kept) == 2


def test_a_network_that_nothing_makes_faster_is_not_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    module, asked = Stochastic().eval(), list[int]()
    plan(module)

    def sample(count: int) -> torch.Tensor:
        asked.append(count)
        return samples(count)

    found = plan(module, sample=sample)
    assert found.plan.cached
    assert found.network is module
    assert asked == [32]


def test_a_word_that_asks_for_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="palin"):
        plan(network(), mode="palin", total=3)


@packs_bf16
def test_a_kept_plan_that_cannot_be_followed_is_looked_for_anew(tmp_path: Path) -> None:
    plan(network())
    for file in (tmp_path / "cache" / "plans").iterdir():
        entry = json.loads(file.read_text(encoding="utf-8"))
        entry["plan"]["backend"]["precision"] = "bf17"
        file.write_text(json.dumps(entry), encoding="utf-8")
    found = plan(network())
    assert not found.plan.cached
    assert found.plan.backend == BF16


def test_a_plan_reads_back_as_it_was_written() -> None:
    found = plan(network()).plan
    read = plan_from_json(json.loads(json.dumps(found.to_json())))
    assert (read.backend, read.tried, read.reason, read.cached) == (found.backend, found.tried, found.reason, True)
    assert read.line() == found.line()


def test_openvino_is_read_only_for_work_that_pays_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if not openvino_installed():
        pytest.skip("OpenVINO is not installed (extra openvino)")
    assert [tried.refused for tried in plan(network()).plan.tried if tried.backend.engine == "openvino"] == [
        "not tried: 0 s of work are too short to convert the network to OpenVINO"
    ] * 2
    monkeypatch.setattr(choose, "_OPENVINO_SECONDS", 0.0)
    module = network()
    with torch.no_grad():
        module[-1].bias += 1  # other weights: nothing is kept
    found = plan(module)
    assert found.plan.backend == Backend("openvino", "bf16")
    assert len([tried for tried in found.plan.tried if tried.backend.engine == "openvino"]) == 1
    with inference(found) as answer:
        assert torch.allclose(answer(samples(7)), module(samples(7)), atol=0.05)


@pytest.mark.parametrize("make", [network, lambda: Cancelling().eval()])
def test_planning_leaves_the_network_as_it_was(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    module = make()
    module.train()
    names = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in module.state_dict().items()}
    found = plan(module)
    with inference(found) as answer:
        answer(samples(3))
    assert all(part.training for part in module.modules())
    for name, tensor in module.state_dict().items():
        assert tensor.data_ptr() == names[name][0]
        assert torch.equal(tensor, names[name][1])
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_batches_are_as_large_as_memory_is_spared() -> None:
    assert batch_size((1, 28, 28)) == 512
    assert batch_size((3, 224, 224)) == 27
    assert batch_size((3, 4000, 4000)) == 8
    assert SHAPE == (3, 12, 12)


@packs_bf16
def test_few_samples_are_predicted_in_the_precision_of_training_where_that_predicts_the_same(monkeypatch) -> None:
    found = plan(network(), total=300, trained_in="bf16").plan
    assert found.backend == BF16
    assert found.reason == "as in training: the predictions for 32 samples equal those of fp32"
    assert found.tried[0].agreement.samples == 32
    assert plan(network(), total=300).plan.backend.precision == "fp32"
    monkeypatch.setattr("striate.inference.plan.MOST_MOVED", -1.0)
    assert plan(network(), total=300, trained_in="bf16").plan.backend.precision == "fp32"
