"""Quantization-aware training: four-bit weights and activations, straight-through gradients, float warm-up."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits


class RoundThrough(torch.autograd.Function):
    """Rounds to a grid. Backward passes gradients unchanged inside the grid's range and stops them outside."""

    @staticmethod
    def forward(ctx, x, scale, low, high):
        steps = x / scale
        ctx.save_for_backward((steps >= low - 0.5) & (steps <= high + 0.5))
        return steps.round().clamp(low, high) * scale

    @staticmethod
    def backward(ctx, grad):
        (inside,) = ctx.saved_tensors
        return grad * inside, None, None, None


class QuantConv(nn.Conv2d):
    def __init__(self, *args, bits=4, **options):
        super().__init__(*args, **options)
        self.bits, self.quantize = bits, False

    def forward(self, x):
        weight = self.weight
        if self.quantize:
            high = 2 ** (self.bits - 1) - 1
            scale = weight.detach().abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-8) / high
            weight = RoundThrough.apply(weight, scale, -high, high)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class QuantReLU(nn.Module):
    """Remembers how large activations get (while training) and cuts that range into 15 steps."""

    def __init__(self, bits=4):
        super().__init__()
        self.bits, self.quantize = bits, False
        self.register_buffer("peak", torch.tensor(0.0))

    def forward(self, x):
        x = F.relu(x)
        if self.training:
            peak = torch.quantile(x.detach().flatten()[::7], 0.999)
            self.peak.copy_(torch.where(self.peak > 0, 0.95 * self.peak + 0.05 * peak, peak))
        if self.quantize:
            high = 2**self.bits - 1
            x = RoundThrough.apply(x, self.peak.clone().clamp(min=1e-6) / high, 0, high)
        return x


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(
            QuantConv(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), QuantReLU(),
            QuantConv(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), QuantReLU(),
            QuantConv(32, 48, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(48), QuantReLU(),
            nn.Flatten(), nn.Linear(48 * 16, 10),
        )

    def set_quantize(self, on):
        for module in self:
            if hasattr(module, "quantize"):
                module.quantize = on


class Experiment:
    warm_up, epochs = 6, 30

    def __init__(self):
        torch.manual_seed(8)
        torch.set_num_threads(1)
        scale = lambda image: image.float().div(255).sub(0.2).div(0.35)
        self.train_loader = DataLoader(Digits(train=True, transform=scale), batch_size=48, shuffle=True)
        self.valid_loader = DataLoader(Digits(train=False, transform=scale), batch_size=100)
        self.net = Net()
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=2e-3)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.epochs)

    def fit(self):
        for epoch in range(self.epochs):
            self.net.set_quantize(epoch >= self.warm_up)
            self.net.train()
            total = 0.0
            for images, labels in self.train_loader:
                self.optimizer.zero_grad()
                loss = F.cross_entropy(self.net(images), labels)
                loss.backward()
                self.optimizer.step()
                total += loss.item() * len(labels)
            self.scheduler.step()
            kind = "4 bit" if epoch >= self.warm_up else "float"
            print(f"epoch {epoch:2d} ({kind}) loss {total / len(self.train_loader.dataset):.4f} accuracy {self.score():.3f}")

    @torch.no_grad()
    def score(self):
        self.net.eval()
        right = sum((self.net(images).argmax(1) == labels).sum().item() for images, labels in self.valid_loader)
        return right / len(self.valid_loader.dataset)


Experiment().fit()
