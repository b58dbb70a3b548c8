"""Quantization-aware training by hand: float first, then fake quantization with straight-through gradients."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader
import numpy as np

from toydata import Digits

EPOCHS, QUANT_FROM, FREEZE_FROM = 18, 7, 14
WEIGHT_LEVELS, ACT_LEVELS = 7, 15  # four bits: -7..7 for weights, 0..15 for activations


def straight_through(x, quantized):
    """The value of `quantized`, the gradient of `x`."""
    return x + (quantized - x).detach()


class FakeQuantAct(nn.Module):
    """For values that are not negative (after ReLU); the range is a running average of maxima."""

    def __init__(self, momentum=0.05):
        super().__init__()
        self.momentum = momentum
        self.enabled, self.observing = False, True
        self.register_buffer("top", torch.tensor(0.0))

    def forward(self, x):
        if self.training and self.observing:
            peak = torch.quantile(x.detach().flatten()[::7], 0.999)
            self.top.copy_(peak if self.top == 0 else self.top + self.momentum * (peak - self.top))
        if not self.enabled:
            return x
        scale = self.top.clamp(min=1e-6) / ACT_LEVELS
        clipped = torch.minimum(x, self.top)
        return straight_through(clipped, (clipped / scale).round() * scale)


def quantize_weight(weight):
    scale = weight.detach().abs().flatten(1).amax(1).clamp(min=1e-8) / WEIGHT_LEVELS
    scale = scale.view(-1, *[1] * (weight.dim() - 1))
    return straight_through(weight, (weight / scale).round().clamp(-WEIGHT_LEVELS, WEIGHT_LEVELS) * scale)


class QConv2d(nn.Conv2d):
    enabled = False

    def forward(self, x):
        weight = quantize_weight(self.weight) if self.enabled else self.weight
        return self._conv_forward(x, weight, self.bias)


class QLinear(nn.Linear):
    enabled = False

    def forward(self, x):
        weight = quantize_weight(self.weight) if self.enabled else self.weight
        return F.linear(x, weight, self.bias)


class QNet(nn.Module):
    def __init__(self):
        super().__init__()

        def block(i, o):
            return [QConv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), FakeQuantAct()]

        self.net = nn.Sequential(
            *block(1, 16), nn.MaxPool2d(2),
            *block(16, 32), nn.MaxPool2d(2),
            *block(32, 48), nn.Flatten(),
            QLinear(48 * 16, 64), nn.ReLU(), FakeQuantAct(),
            nn.Linear(64, 10),  # the last layer stays in float, as is usual
        )

    def forward(self, x):
        return self.net(x)


def set_flags(model, **flags):
    for module in model.modules():
        for name, value in flags.items():
            if hasattr(module, name):
                setattr(module, name, value)


def transform(image):
    return (image.float() / 255 - 0.17) / 0.27


def train(model, loader, optimizer, freeze_norm):
    model.train()
    if freeze_norm:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    losses = []
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.mean(losses)


def evaluate(model, loader):
    model.eval()
    right = total = 0
    with torch.inference_mode():
        for images, labels in loader:
            right += (model(images).argmax(dim=1) == labels).sum().item()
            total += labels.numel()
    return right / total


torch.manual_seed(11)
np.random.seed(11)
train_loader = DataLoader(Digits(True, count=2000, transform=transform), batch_size=64, shuffle=True)
test_loader = DataLoader(Digits(False, count=400, transform=transform), batch_size=200, shuffle=False)

model = QNet()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=QUANT_FROM, gamma=0.4)

for epoch in range(EPOCHS):
    if epoch == QUANT_FROM:
        set_flags(model, enabled=True)
        print("-- fake quantization on")
    if epoch == FREEZE_FROM:
        set_flags(model, observing=False)
        print("-- ranges and batch norm frozen")
    loss = train(model, train_loader, optimizer, freeze_norm=epoch >= FREEZE_FROM)
    scheduler.step()
    print(f"epoch {epoch:2d}  loss {loss:.4f}  accuracy {evaluate(model, test_loader):.4f}")

# the weights for the device, as integers: they must give the same accuracy
with torch.no_grad():
    for module in model.modules():
        if isinstance(module, (QConv2d, QLinear)):
            module.weight.copy_(quantize_weight(module.weight))
            module.enabled = False
print(f"with quantized weights stored: {evaluate(model, test_loader):.4f}")
