"""Quantization-aware training by hand: 4-bit weights, 8-bit activations, a straight-through estimator."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class FakeQuantize(torch.autograd.Function):
    """Rounds to a grid of steps; the gradient passes where the value is within the grid's range."""

    @staticmethod
    def forward(ctx, x, scale, low, high):
        steps = torch.round(x / scale)
        ctx.save_for_backward((steps >= low) & (steps <= high))
        return steps.clamp(low, high) * scale

    @staticmethod
    def backward(ctx, grad_output):
        (inside,) = ctx.saved_tensors
        return grad_output * inside, None, None, None


class QuantState:
    """Shared by the layers of one network: is quantization simulated?"""

    def __init__(self):
        self.enabled = False


class QuantConv2d(nn.Conv2d):
    def __init__(self, *args, state, bits=4, **kwargs):
        super().__init__(*args, **kwargs)
        self.quant_state, self.high = state, 2 ** (bits - 1) - 1

    def forward(self, x):
        weight = self.weight
        if self.quant_state.enabled:
            scale = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-8) / self.high
            weight = FakeQuantize.apply(weight, scale, -self.high, self.high)
        return self._conv_forward(x, weight, self.bias)


class QuantLinear(nn.Linear):
    def __init__(self, *args, state, bits=4, **kwargs):
        super().__init__(*args, **kwargs)
        self.quant_state, self.high = state, 2 ** (bits - 1) - 1

    def forward(self, x):
        weight = self.weight
        if self.quant_state.enabled:
            scale = weight.detach().abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / self.high
            weight = FakeQuantize.apply(weight, scale, -self.high, self.high)
        return F.linear(x, weight, self.bias)


class QuantReLU(nn.Module):
    """ReLU, and an observer of its largest output; in evaluation the observed range stays as it is."""

    def __init__(self, state, bits=8, momentum=0.05):
        super().__init__()
        self.quant_state, self.high, self.momentum = state, 2**bits - 1, momentum
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, x):
        x = F.relu(x)
        if self.training:
            with torch.no_grad():
                now = x.max()
                self.largest.copy_(now if self.largest == 0 else torch.lerp(self.largest, now, self.momentum))
        if self.quant_state.enabled:
            x = FakeQuantize.apply(x, self.largest.clamp(min=1e-8) / self.high, 0, self.high)
        return x


class QuantNet(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.state = state = QuantState()
        self.conv1 = QuantConv2d(1, 24, 3, padding=1, bias=False, state=state)
        self.bn1, self.act1 = nn.BatchNorm2d(24), QuantReLU(state)
        self.conv2 = QuantConv2d(24, 48, 3, padding=1, bias=False, state=state)
        self.bn2, self.act2 = nn.BatchNorm2d(48), QuantReLU(state)
        self.conv3 = QuantConv2d(48, 64, 3, padding=1, bias=False, state=state)
        self.bn3, self.act3 = nn.BatchNorm2d(64), QuantReLU(state)
        self.fc = QuantLinear(64 * 4 * 4, classes, state=state)

    def forward(self, x):
        x = F.max_pool2d(self.act1(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(self.act2(self.bn2(self.conv2(x))), 2)
        x = self.act3(self.bn3(self.conv3(x)))
        return self.fc(x.flatten(1))


def run_epoch(model, loader, optimizer):
    model.train()
    loss_sum, count = 0.0, 0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(x)
        count += len(x)
    return loss_sum / count


@torch.no_grad()
def evaluate(model, loader, quantized):
    model.eval()
    before, model.state.enabled = model.state.enabled, quantized
    hits = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    model.state.enabled = before
    return hits / len(loader.dataset)


def main():
    torch.manual_seed(13)
    x, y = draw_digits(3000, seed=60, noise=0.15)
    x_val, y_val = draw_digits(600, seed=61, noise=0.15)
    mean, std = (x / 255).mean(), (x / 255).std()
    train_loader = DataLoader(TensorDataset((x / 255 - mean) / std, y), batch_size=64, shuffle=True)
    val_loader = DataLoader(TensorDataset((x_val / 255 - mean) / std, y_val), batch_size=200)
    model = QuantNet()

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(8):
        loss = run_epoch(model, train_loader, optimizer)
        print(f"float epoch {epoch}: loss {loss:.4f} val accuracy {evaluate(model, val_loader, False):.4f}")
    print(f"rounded without further training: {evaluate(model, val_loader, True):.4f}")

    model.state.enabled = True
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    for epoch in range(10):
        loss = run_epoch(model, train_loader, optimizer)
        scheduler.step()
        print(f"quantized epoch {epoch}: loss {loss:.4f} val accuracy {evaluate(model, val_loader, True):.4f}")


if __name__ == "__main__":
    main()
