"""What a GPU does with fp32 products is said, and put back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from striate.inference.predictor import inference, plain_predictor
from striate.machine import precision
from striate.machine.precision import bf16_pays_on_cpu, dtype_of, fp32_products

Settings = tuple[bool, bool, bool, bool]


def settings() -> Settings:
    cudnn = torch.backends.cudnn
    return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.enabled


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("deterministic", [None, False, True])
def test_products_are_as_said_and_as_before_afterwards(tf32: bool, deterministic: bool | None) -> None:
    before = settings()
    same = before[2] if deterministic is None else deterministic

    def fail() -> None:
        with fp32_products(tf32=tf32, deterministic=deterministic):
            assert settings() == (tf32, tf32, same, before[3])
            with fp32_products(tf32=not tf32):
                assert settings() == (not tf32, not tf32, same, before[3])
            assert settings() == (tf32, tf32, same, before[3])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert settings() == before


class Noting(nn.Module):
    """Remembers with which settings it was computed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = settings()
        return x


def test_plain_answers_are_fp32_where_torch_would_round_convolutions() -> None:
    assert torch.backends.cudnn.allow_tf32  # torch's own choice, or this shows nothing
    module = Noting()
    with inference(plain_predictor(module)) as network:
        network(torch.zeros(1))
    assert module.seen[:2] == (False, False)


@pytest.mark.parametrize(("slower", "pays"), [(torch.float32, True), (torch.bfloat16, False)])
def test_products_of_bf16_pay_where_they_are_faster(
    slower: torch.dtype, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bf16_on_cpu", lambda: True)
    monkeypatch.setattr(precision, "perf_counter", lambda: now[0])
    now = [0.0]

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        now[0] += 2.0 if a.dtype == slower else 1.0
        return a

    monkeypatch.setattr(torch, "mm", product)
    assert bf16_pays_on_cpu.__wrapped__() == pays


def test_products_that_a_processor_has_not_do_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bf16_on_cpu", lambda: False)
    assert not bf16_pays_on_cpu.__wrapped__()


def test_types_of_the_numbers() -> None:
    found = [dtype_of(precision) for precision in ("fp32", "tf32", "bf16", "fp16")]
    assert found == [torch.float32, torch.float32, torch.bfloat16, torch.float16]
