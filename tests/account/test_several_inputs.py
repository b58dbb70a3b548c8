"""The account of a network that takes several tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import striate
from striate.errors import ModelError


class PictureAndNumbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.words, self.out = nn.Conv2d(3, 8, 3), nn.Embedding(20, 5), nn.Linear(8 + 4 + 5, 2)

    def forward(self, image: torch.Tensor, numbers: torch.Tensor, words: torch.Tensor | None = None) -> torch.Tensor:
        seen = torch.relu(self.conv(image)).mean((2, 3))
        read = torch.zeros_like(seen[:, :5]) if words is None else self.words(words).mean(1)
        return self.out(torch.cat([seen, numbers, read], 1))


IMAGE, NUMBERS = (3, 8, 8), (4,)


@pytest.mark.parametrize(
    "inputs",
    [(IMAGE, NUMBERS), {"image": IMAGE, "numbers": NUMBERS}, {"numbers": NUMBERS, "image": IMAGE}],
    ids=["tuple", "mapping", "other order"],
)
def test_shapes_by_place_or_name(inputs: tuple[tuple[int, ...], ...] | dict[str, tuple[int, ...]]) -> None:
    network = PictureAndNumbers()
    ledger = striate.summarize(network, inputs)
    assert [row.name for row in ledger.rows if row.params and row.executed] == ["conv", "out"]
    assert ledger.params == sum(parameter.numel() for parameter in network.parameters())
    assert ledger.macs == 6 * 6 * 8 * 3 * 9 + 17 * 2
    assert {ledger.input, *ledger.other_inputs.values()} == {IMAGE, NUMBERS}
    assert "PictureAndNumbers: " in str(ledger)
    assert "network." not in str(ledger)
    assert network.training


def test_example_tensors_say_the_number_format() -> None:
    examples = (torch.zeros(2, *IMAGE), torch.zeros(2, *NUMBERS), torch.zeros(2, 6, dtype=torch.long))
    ledger = striate.summarize(PictureAndNumbers, examples)
    assert ledger.other_inputs == {"1": NUMBERS, "2": (6,)}
    assert next(row for row in ledger.rows if row.name == "words").out_shape == (6, 5)
    assert ledger.receptive_field == (3, 3)
    assert ledger.to_json()["other_inputs"] == {"1": NUMBERS, "2": (6,)}


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({}, "a mapping from nothing"),
        ((IMAGE, (5,)), "18 features for 17"),
        (
            {"image": IMAGE, "numbers": NUMBERS, "word": (6,)},
            r"inputs by the names of its forward[^|]*\"words\": \(6,\)",
        ),
        ((IMAGE, 4), "the number 4"),
        (IMAGE, "also needs `numbers`"),
    ],
)
def test_inputs_that_do_not_fit(inputs: object, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        striate.summarize(PictureAndNumbers(), inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize("inputs", [{"image": IMAGE}, {"image": IMAGE, "number": NUMBERS}])
def test_names_that_forward_does_not_know_or_lacks_are_told_with_those_it_has(
    inputs: dict[str, tuple[int, ...]],
) -> None:
    with pytest.raises(ModelError, match="inputs by the names of its forward: image, numbers and words") as caught:
        striate.summarize(PictureAndNumbers(), inputs)
    mended = eval(caught.value.remedy)
    assert mended == {"image": IMAGE, "numbers": NUMBERS if "number" in inputs else (1,)}
