"""What is said of a start: nothing of a sound one, the first layer concerned of an unsound one."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from striate.account.signal.findings import signal_findings
from striate.account.signal.trace import trace_signal
from striate.models.build import build_model
from striate.models.registry import MODELS

DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS, LABELS = torch.tensor(DIGITS, dtype=torch.float32).reshape(-1, 1, 8, 8)[:64], torch.tensor(LABELS)[:64]
DIGITS = (DIGITS - DIGITS.mean()) / DIGITS.std()


def found(text, *, init="auto", scale=1.0, bias=None, shape=(1, 8, 8), seed=0):
    torch.manual_seed(seed)
    dense = text in MODELS and MODELS[text].dense
    network = build_model(text, shape, 10, dense=dense, init=init)
    for parameter_name, p in network.named_parameters():
        if p.ndim > 1:
            p.data.mul_(scale)
        elif bias is not None and parameter_name.endswith("bias"):
            p.data.fill_(bias)
    size = shape[-1] // 8
    x = DIGITS.repeat_interleave(size, 2).repeat_interleave(size, 3).expand(-1, *shape)
    targets = LABELS[:, None, None].expand(-1, *shape[1:]) if dense else LABELS
    return signal_findings(trace_signal(network, x, lambda out: nn.functional.cross_entropy(out, targets)))


SMALL = [name for name, info in MODELS.items() if info.published_macs < 10**8 and info.reduction == 1]


# The Neocognitron's competition asks for no gradient, and nothing is judged of it; an autoencoder has no classes, and
# motion-entropy takes no image.
UNLIKE = ("neocognitron", "autoencoder", "motion-entropy")


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("name", [name for name in SMALL if name not in UNLIKE])
@pytest.mark.parametrize("channels", [1, 3])
def test_silent_on_the_zoo(name, channels):
    side = 24 if name in ("mnist-cnn", "lenet5") else 16
    assert found(name, shape=(channels, side, side)) == ()


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "text",
    [
        "fc(10)",
        "fc(4) relu fc(10)",
        "conv(16,3) relu pool(2) fc(10)",
        "conv(8,3) tanh pool(2) fc(32) sigmoid fc(10)",
        "20*[fc(100) tanh] fc(10)",
        "20*[fc(100) relu] fc(10)",
        "20*[fc(16) relu] fc(10)",
        "20*[fc(64) sigmoid] fc(10)",
        "20*[fc(64) swish] fc(10)",
        "20*[conv(8,3,pad=1) relu] gap fc(10)",
        "20*[conv(8,3,pad=1) sigmoid] gap fc(10)",
        "20*[conv(8,3,pad=1) bn relu] gap fc(10)",
        "fc(64) 20*[res[relu fc(64) relu fc(64)]] relu fc(10)",
        "conv(8,3,pad=1) 10*[res[conv(8,3,pad=1) bn relu conv(8,3,pad=1) bn] relu] gap fc(10)",
        "3*[fc(64) relu dropout(0.5)] fc(10)",
    ],
)
def test_silent_on_reasonable_networks(text, seed):
    assert found(text, seed=seed) == ()


@pytest.mark.parametrize(
    ("text", "options", "code", "where"),
    [
        ("20*[fc(100) tanh] fc(10)", {"init": "normal"}, "model.vanishing-gradient", "fc"),
        ("20*[fc(100) relu] fc(10)", {"init": "uniform"}, "model.vanishing-gradient", "fc"),
        ("20*[fc(100) tanh] fc(10)", {"scale": 10.0}, "model.saturated", "tanh1"),
        ("20*[fc(100) sigmoid] fc(10)", {"scale": 10.0}, "model.saturated", "sigmoid1"),
        ("20*[fc(100) relu] fc(10)", {"scale": 10.0}, "model.exploding-gradient", "fc"),
        ("3*[fc(100) relu] fc(10)", {"bias": -10.0}, "model.dead-units", "relu1"),
        ("conv(8,3) relu fc(10)", {"bias": -10.0}, "model.dead-units", "relu1"),
    ],
)
def test_unsound_starts_are_noticed(text, options, code, where):
    findings = {finding.code: finding for finding in found(text, **options)}
    assert code in findings
    finding = findings[code]
    assert finding.severity == "warning"
    assert finding.where.startswith(where)
    assert "before the first step" in finding.measured
    assert finding.threshold
    assert "--model.init auto" in finding.remedy


def test_an_infinite_signal_explodes():
    findings = found("60*[fc(100) relu] fc(10)", scale=1e3)
    assert [finding.code for finding in findings if "gradient" in finding.code] == ["model.exploding-gradient"]


def test_what_the_remedy_says_mends_a_network_of_ones_own():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Linear(64, 50), nn.Linear(50, 50), nn.Linear(50, 10)
            nn.init.constant_(self.a.bias, -50)

        def forward(self, x):
            return self.out(self.b(self.a(x.flatten(1)).relu()).relu())

    def findings(init):
        network = build_model(Own(), (1, 8, 8), 10, init=init)
        rows = trace_signal(network, DIGITS, lambda out: nn.functional.cross_entropy(out, LABELS))
        return [finding.code for finding in signal_findings(rows)]

    assert "model.dead-units" in findings("auto")
    assert findings("he-normal") == []
