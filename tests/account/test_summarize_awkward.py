"""Networks written as their users write them: rows, parameters and products are those of the arithmetic."""

from __future__ import annotations

import awkward_modules as awkward
import pytest
import torch
from torch import nn

from striate import summarize

ATTENTION = 5 * 8 * 24 + 2 * 5 * 5 * 8 + 5 * 8 * 8
LSTM = 6 * 4 * (4 * 8 + 8 * 8)

# network, input, [(name, kind, parameters, multiply–accumulates, executed)]
CASES = {
    "functional pooling": (
        awkward.FunctionalPooling,
        (1, 8, 8),
        [
            ("conv", "conv", 40, 36 * 4 * 9, True),
            ("relu", "relu", 0, 0, True),
            ("max_pool2d", "pool", 0, 0, True),
            ("fc", "fc", 74, 72, True),
        ],
    ),
    "shared weight": (
        awkward.SharedWeight,
        (4,),
        [("first", "fc", 20, 16, True), ("second", "fc", 0, 16, True)],
    ),
    "used twice": (
        awkward.UsedTwice,
        (2, 8, 8),
        [("conv", "conv", 38, 64 * 36, True), ("conv", "conv", 0, 64 * 36, True)],
    ),
    "branch: small": (
        awkward.BranchOnShape,
        (1, 8, 8),
        [("small", "conv", 4, 128, True), ("large", "conv", 52, 0, False)],
    ),
    "branch: large": (
        awkward.BranchOnShape,
        (1, 9, 9),
        [("large", "conv", 52, 25 * 50, True), ("small", "conv", 4, 0, False)],
    ),
    "attention": (awkward.Attention, (5, 8), [("attention", "MultiheadAttention", 288, ATTENTION, True)]),
    "transposed": (
        lambda: nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1),
        (2, 5, 5),
        [("ConvTranspose2d", "ConvTranspose2d", 99, 25 * 2 * 3 * 16, True)],
    ),
    "unused": (
        awkward.Unused,
        (3,),
        [("used", "fc", 12, 9, True), ("idle", "fc", 20, 0, False), ("quiet", "relu", 0, 0, False)],
    ),
    "custom function": (awkward.CustomFunction, (3,), [("fc", "fc", 16, 12, True)]),
    "nested lists": (
        awkward.NestedLists,
        (3,),
        [(f"stages.{i}.{j}", ("fc", "relu")[j], (12, 0)[j], (9, 0)[j], True) for i in (0, 1) for j in (0, 1)],
    ),
    "1-D": (
        lambda: nn.Sequential(nn.Conv1d(1, 2, 3), nn.MaxPool1d(2), nn.AvgPool1d(2)),
        (1, 13),
        [("0", "conv", 8, 66, True), ("1", "pool", 0, 0, True), ("2", "avgpool", 0, 0, True)],
    ),
    "3-D": (
        lambda: nn.Sequential(nn.Conv3d(1, 2, 3), nn.MaxPool3d(2), nn.AdaptiveAvgPool3d(1)),
        (1, 6, 7, 8),
        [("0", "conv", 56, 2 * 120 * 27, True), ("1", "pool", 0, 0, True), ("2", "gap", 0, 0, True)],
    ),
    "record": (awkward.GivesRecord, (3,), [("fc", "fc", 8, 6, True)]),
    "several tensors": (
        awkward.SeveralTensors,
        (3,),
        [("mix", "Bilinear", 40, 36, True), ("last", "fc", 10, 8, True)],
    ),
    "numbers": (awkward.LooksAtNumbers, (3,), [("fc", "fc", 8, 6, True), ("other", "fc", 8, 0, False)]),
    "raw products": (
        awkward.RawProducts,
        (3,),
        [("einsum", "einsum", 15, 15, True), ("matmul", "matmul", 0, 20, True), ("act", "relu", 0, 0, True)],
    ),
    "checkpointed": (awkward.Checkpointed, (3,), [("fc", "fc", 12, 9, True), ("last", "fc", 8, 6, True)]),
    "recurrent": (awkward.Recurrent, (6, 4), [("lstm", "LSTM", 448, LSTM, True), ("fc", "fc", 18, 16, True)]),
    "own layer": (
        lambda: nn.Sequential(awkward.OwnLayer(), nn.Linear(6, 2)),
        (3,),
        [("0", "OwnLayer", 24, 18, True), ("1", "fc", 14, 12, True)],
    ),
    "own layer as the network": (
        awkward.OwnLayer,
        (3,),
        [("linear", "fc", 18, 18, True), ("relu", "relu", 0, 0, True), ("scale", "Parameter", 6, 0, True)],
    ),
    "scaled first": (
        lambda: nn.Sequential(nn.Conv2d(2, 2, 1), awkward.ScaledFirst(), awkward.ScaledFirst()),
        (2, 4, 4),
        [("0", "conv", 6, 64, True)]
        + [
            row
            for block in (1, 2)
            for row in (
                (f"{block}.scale", "Parameter", 2, 0, True),
                (f"{block}.relu", "relu", 0, 0, True),
                (f"{block}.shift", "Parameter", 2, 0, True),
                (f"{block}.conv", "conv", 38, 16 * 36, True),
            )
        ],
    ),
    "scaled first as the network": (
        awkward.ScaledFirst,
        (2, 4, 4),
        [
            ("scale", "Parameter", 2, 0, True),
            ("relu", "relu", 0, 0, True),
            ("shift", "Parameter", 2, 0, True),
            ("conv", "conv", 38, 16 * 36, True),
        ],
    ),
    "lazy": (
        lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2)),
        (1, 6, 6),
        [("0", "conv", 40, 16 * 36, True), ("1", "flatten", 0, 0, True), ("2", "fc", 130, 128, True)],
    ),
    "parametrized": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), nn.ReLU()),
        (3,),
        [("0", "fc", 15, 9, True), ("1", "relu", 0, 0, True)],
    ),
    "half precision": (lambda: nn.Linear(3, 2).bfloat16(), (3,), [("Linear", "fc", 8, 6, True)]),
    "on meta": (lambda: nn.Linear(3, 2, device="meta"), (3,), [("Linear", "fc", 8, 6, True)]),
}


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", CASES)
def test_rows_of(name: str) -> None:
    make, shape, expected = CASES[name]
    network = make()
    ledger = summarize(network, shape)
    assert [(row.name, row.kind, row.params, row.macs, row.executed) for row in ledger.rows] == expected
    for total in ("params", "trainable", "macs"):
        assert getattr(ledger, total) == sum(getattr(row, total) for row in ledger.rows)
    assert sum(ledger.other_ops.values()) == sum(row.other_ops for row in ledger.rows)
    if name != "lazy":
        assert ledger.params == sum(parameter.numel() for parameter in network.parameters())


def test_class_token_and_positions_are_rows_of_their_own() -> None:
    ledger = summarize(awkward.ClassToken(), (1, 8, 8))
    rows = {row.name: row for row in ledger.rows}
    assert [row.name for row in ledger.rows[:4]] == ["patches", "token", "positions", "block.self_attn"]
    assert (rows["token"].kind, rows["token"].params, rows["positions"].params) == ("Parameter", 8, 40)
    assert rows["patches"].receptive_field == rows["patches"].jump == (4, 4)
    assert rows["block.norm2"].receptive_field == (8, 8)  # attention sees everything
    assert rows["block.self_attn"].macs == ATTENTION
    assert ledger.output == (8,)


def test_half_precision_takes_two_bytes_a_number() -> None:
    row = summarize(nn.Linear(3, 2).bfloat16(), (3,)).rows[0]
    assert (row.weight_bytes, row.output_bytes, row.saved_bytes) == (16, 4, 6)


def test_frozen_parameters_are_not_trainable_and_keep_nothing() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    ledger = summarize(network, (3,))
    assert (ledger.params, ledger.trainable) == (26, 10)
    assert ledger.weight_bytes == 104
    assert ledger.optimizer_bytes == {"sgd": 104 + 40, "momentum": 104 + 80, "adam": 104 + 120}
    assert [row.saved_bytes for row in ledger.rows] == [0, 16]


def test_a_network_that_looks_at_numbers_is_counted_for_real_and_told() -> None:
    ledger = summarize(awkward.LooksAtNumbers(), (3,))
    assert ledger.uncounted == ()
    (remark,) = (remark for remark in ledger.remarks if remark.code == "account.real-pass")
    assert remark.severity == "note"
    assert "on zeros" in remark.measured


def test_a_pooling_to_one_position_is_global_whether_a_layer_or_a_function() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = nn.functional.adaptive_avg_pool2d(self.norm(x), output_size=(4, 1))
            return nn.functional.adaptive_avg_pool2d(nn.functional.adaptive_avg_pool2d(x, (2, 1)), 1)

    kinds = [row.kind for row in summarize(Pooled(), (2, 8, 8)).rows]
    assert kinds == ["bn", "adaptive_avg_pool2d", "adaptive_avg_pool2d", "gap"]


def test_layers_called_through_vmap_have_their_shapes_and_fields() -> None:
    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.vmap(self.conv)(x)

    (row,), (plain,) = (summarize(net, (1, 9, 9)).rows for net in (Mapped(), nn.Sequential(nn.Conv2d(1, 3, 3))))
    assert (row.in_shape, row.out_shape, row.receptive_field) == ((1, 9, 9), (3, 7, 7), (3, 3))
    assert (row.jump, row.macs, row.leftover) == (plain.jump, plain.macs, plain.leftover)


def test_windows_by_unfold_and_mixed_channels_see_no_more_than_convolutions() -> None:
    shuffled = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ChannelShuffle(2), nn.Conv2d(8, 8, 3))
    ledger = summarize(shuffled, (4, 16, 16))
    assert (ledger.receptive_field, ledger.uncounted) == ((5, 5), ())
    unfolded = summarize(nn.Sequential(nn.Unfold(3), nn.Conv1d(9, 4, 1)), (1, 9, 9))
    assert (unfolded.receptive_field, unfolded.jump) == ((3, 3), (1, 1))


def test_what_cannot_be_counted_is_listed_with_its_place() -> None:
    ledger = summarize(nn.Sequential(nn.Identity(), awkward.Frequencies()), (8,))
    assert set(ledger.uncounted) == {"1: _fft_r2c", "1: sort"}


class LeavesTorch(nn.Module):
    def forward(self, x):
        return x + torch.from_numpy(x.detach().numpy() * 2)


def test_arithmetic_outside_of_torch_is_told() -> None:
    ledger = summarize(nn.Sequential(LeavesTorch(), nn.ReLU()), (3,))
    assert "0: leaves torch (numpy)" in ledger.uncounted


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_made_by_hooks_are_those_of_their_layer() -> None:
    (row,) = summarize(nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 3))), (3,)).rows
    assert (row.params, row.macs) == (15, 9)


class Noisy(nn.Module):
    """Prints, changes a buffer, counts its calls, draws random numbers, and has a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn, self.calls = nn.Linear(4, 3), nn.BatchNorm1d(3), 0
        self.seen: list[int] = []
        self.fc.register_forward_hook(lambda _module, _inputs, output: output * 2)

    def forward(self, x):
        print("forward")
        self.calls += 1
        torch.rand(2)
        self.bn.running_mean += 1
        return self.bn(self.fc(x))


@pytest.mark.parametrize("width", [4, 5])
def test_looking_changes_nothing_also_where_it_fails(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    network = Noisy()
    network.bn.eval()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    random, hooks = torch.get_rng_state(), [len(part._forward_hooks) for part in network.modules()]
    if width == 4:
        ledger = summarize(network, (4,))
        assert [(row.name, row.other_ops) for row in ledger.rows] == [("fc", 3 + 3 + 3), ("bn", 6)]
    else:
        with pytest.raises(ValueError, match="fc"):
            summarize(network, (5,))
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert (network.training, network.fc.training, network.bn.training) == (True, True, False)
    assert network.calls == 0
    assert torch.equal(random, torch.get_rng_state())
    assert hooks == [len(part._forward_hooks) for part in network.modules()]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert capsys.readouterr().out == ""


def test_a_layer_takes_in_the_scale_that_came_before_it() -> None:
    rows = summarize(awkward.ScaledFirst(), (2, 4, 4)).rows
    assert [(row.name, row.inputs) for row in rows] == [
        ("scale", ()),
        ("relu", (-1, 0)),
        ("shift", ()),
        ("conv", (1, 2)),
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_scripted_network_runs_and_keeps_what_it_is_written_with() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    scripted = torch.jit.script(layers)
    assert summarize(scripted, (3, 8, 8)).training_bytes == summarize(layers, (3, 8, 8)).training_bytes
    part = summarize(nn.Sequential(scripted, nn.Conv2d(4, 4, 3)), (3, 8, 8))
    assert all(row.executed for row in part.rows)
    assert "account.never-executed" not in {remark.code for remark in part.remarks}
