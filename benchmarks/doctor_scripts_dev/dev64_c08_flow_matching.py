"""Generation: conditional flow matching of small digits. A network learns the velocity from noise to image."""

import argparse
import copy
import math

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


def timestep_embedding(t, dim, max_period=1000.0):
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half) / half)
    args = 100.0 * t[:, None] * freqs[None]
    return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)


class ModulatedBlock(nn.Module):
    """A residual MLP block whose normalized input is shifted and scaled by the condition."""

    def __init__(self, dim, cond_dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation = nn.Linear(cond_dim, 2 * dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, x, cond):
        shift, scale = self.modulation(cond).chunk(2, dim=-1)
        return x + self.mlp(self.norm(x) * (1 + scale) + shift)


class VelocityNet(nn.Module):
    def __init__(self, pixels, dim=256, cond_dim=64, depth=3, num_classes=10):
        super().__init__()
        self.cond_dim = cond_dim
        self.inp = nn.Linear(pixels, dim)
        self.time = nn.Sequential(nn.Linear(cond_dim, cond_dim), nn.SiLU(), nn.Linear(cond_dim, cond_dim))
        self.label = nn.Embedding(num_classes, cond_dim)
        self.blocks = nn.ModuleList([ModulatedBlock(dim, cond_dim) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, pixels)

    def forward(self, x, t, y):
        cond = nn.functional.silu(self.time(timestep_embedding(t, self.cond_dim)) + self.label(y))
        h = self.inp(x)
        for block in self.blocks:
            h = block(h, cond)
        return self.out(self.norm(h))


class FlowMatching:
    """Straight paths x_t = (1 - t) noise + t image, of velocity image - noise."""

    def __init__(self, model):
        self.model = model

    def loss(self, x1, y, generator=None):
        x0 = torch.randn(x1.shape, generator=generator)
        t = torch.rand(len(x1), generator=generator)
        xt = (1 - t[:, None]) * x0 + t[:, None] * x1
        velocity = self.model(xt, t, y)
        return (velocity - (x1 - x0)).pow(2).mean()

    @torch.no_grad()
    def sample(self, y, pixels, steps=20):
        x = torch.randn(len(y), pixels)
        for i in range(steps):
            t = torch.full((len(y),), i / steps)
            x = x + self.model(x, t, y) / steps
        return x


@torch.no_grad()
def update_ema(ema, model, decay):
    for p_ema, p in zip(ema.parameters(), model.parameters()):
        p_ema.mul_(decay).add_(p, alpha=1 - decay)


@torch.no_grad()
def validate(model, loader):
    """The loss over held-out images, with the same noise and times each epoch."""
    model.eval()
    generator = torch.Generator().manual_seed(123)
    total, seen = 0.0, 0
    for x, y in loader:
        total += FlowMatching(model).loss(x, y, generator).item() * len(x)
        seen += len(x)
    return total / seen


def prepare(count, seed):
    images, labels = draw_digits(count, size=16, seed=seed, shift=1)
    return TensorDataset(images.flatten(1).float() / 127.5 - 1, labels)


def show(image, size=16):
    for row in image.view(size, size):
        print("".join(" .+#"[min(3, max(0, int((v + 1) * 2)))] for v in row.tolist()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--ema-decay", type=float, default=0.95)
    args = parser.parse_args()
    torch.manual_seed(0)

    train_loader = DataLoader(prepare(1500, 0), batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(prepare(300, 1), batch_size=100)
    model = VelocityNet(pixels=256)
    ema = copy.deepcopy(model).requires_grad_(False)
    flow = FlowMatching(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)

    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for x, y in train_loader:
            loss = flow.loss(x, y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            update_ema(ema, model, args.ema_decay)
            running += loss.item()
        print(f"epoch {epoch:2d}  train {running / len(train_loader):.4f}  val (ema) {validate(ema, val_loader):.4f}")

    samples = FlowMatching(ema).sample(torch.tensor([3, 7]), pixels=256)
    for image in samples:
        show(image)


if __name__ == "__main__":
    main()
