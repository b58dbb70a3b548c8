"""Multi-task clips (direction, kind, final place of a moving shape), written functionally: params in, loss out."""
import argparse
from functools import partial
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call

from toydata import shape_mask

KINDS = ("square", "disc", "cross")
STEPS = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])  # right, left, down, up as (dy, dx)
MIRRORED = torch.tensor([1, 0, 2, 3])  # what a direction is called in the mirror


class Batch(NamedTuple):
    clips: torch.Tensor  # (N, T, H, W)
    direction: torch.Tensor  # (N,)
    kind: torch.Tensor  # (N,)
    center: torch.Tensor  # (N, 2), (x, y) in [0, 1]


def make_clips(rng, count, frames=4, size=16, width=6, speed=2):
    direction = torch.randint(0, 4, (count,), generator=rng)
    kind = torch.randint(0, 3, (count,), generator=rng)
    clips = torch.zeros(count, frames, size, size)
    center = torch.zeros(count, 2)
    reach = speed * (frames - 1)
    for i in range(count):
        step = STEPS[direction[i]] * speed
        low, high = [], []
        for delta in step.tolist():
            low.append(reach if delta < 0 else 0)
            high.append(size - width - (reach if delta > 0 else 0))
        top = int(torch.randint(low[0], high[0] + 1, (1,), generator=rng))
        left = int(torch.randint(low[1], high[1] + 1, (1,), generator=rng))
        for t in range(frames):
            y, x = top + int(step[0]) * t, left + int(step[1]) * t
            clips[i, t] = shape_mask(KINDS[int(kind[i])], size, y, x, width).float()
        center[i] = torch.tensor([x + width / 2, y + width / 2]) / size
    clips = clips + 0.1 * torch.randn(clips.shape, generator=rng)
    return Batch((clips - 0.1) / 0.3, direction, kind, center)


class ClipNet(nn.Module):
    def __init__(self, frames=4, width=32):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(frames, width, 5, padding=2), nn.GroupNorm(4, width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.GroupNorm(4, width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(width * 16, 64), nn.ReLU(),
        )
        self.direction = nn.Linear(64, 4)
        self.kind = nn.Linear(64, 3)
        self.center = nn.Linear(64, 2)

    def forward(self, clips):
        h = self.trunk(clips)
        return self.direction(h), self.kind(h), self.center(h)


def init(model, seed):
    torch.manual_seed(seed)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return {name: p.detach().clone().requires_grad_(True) for name, p in model.named_parameters()}


def batches(rng, data, batch_size, shuffle):
    count = len(data.clips)
    order = torch.randperm(count, generator=rng) if shuffle else torch.arange(count)
    for start in range(0, count, batch_size):
        index = order[start : start + batch_size]
        yield Batch(*(field[index] for field in data))


def augment(rng, batch):
    """Mirrors half of the clips, and with them what is said of them."""
    flip = torch.rand(len(batch.clips), generator=rng) < 0.5
    clips = torch.where(flip[:, None, None, None], batch.clips.flip(-1), batch.clips)
    direction = torch.where(flip, MIRRORED[batch.direction], batch.direction)
    x, y = batch.center.unbind(1)
    center = torch.stack([torch.where(flip, 1 - x, x), y], dim=1)
    return Batch(clips, direction, batch.kind, center)


def loss_fn(apply, params, batch, weights):
    direction, kind, center = apply(params, batch.clips)
    terms = {
        "direction": F.cross_entropy(direction, batch.direction),
        "kind": F.cross_entropy(kind, batch.kind),
        "center": F.mse_loss(center, batch.center),
    }
    return sum(weights[name] * value for name, value in terms.items()), terms


def train_step(apply, params, optimizer, batch, cfg):
    loss, terms = loss_fn(apply, params, batch, {"direction": 1.0, "kind": 1.0, "center": cfg.center_weight})
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():  # decoupled weight decay, of kernels only
        for p in params.values():
            if p.ndim > 1:
                p.mul_(1 - cfg.lr * cfg.wd)
    return loss.detach(), terms


@torch.no_grad()
def evaluate(apply, params, data, batch_size):
    right_direction = right_kind = seen = 0
    error = 0.0
    for batch in batches(None, data, batch_size, shuffle=False):
        direction, kind, center = apply(params, batch.clips)
        right_direction += (direction.argmax(-1) == batch.direction).sum().item()
        right_kind += (kind.argmax(-1) == batch.kind).sum().item()
        error += (center - batch.center).norm(dim=-1).sum().item()
        seen += len(batch.clips)
    return right_direction / seen, right_kind / seen, error / seen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--wd", type=float, default=0.02)
    parser.add_argument("--center-weight", type=float, default=5.0)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    cfg = parser.parse_args()

    rng = torch.Generator().manual_seed(cfg.seed)
    train, val = make_clips(rng, 1000), make_clips(rng, 220)
    model = ClipNet()
    params = init(model, cfg.seed)
    apply = partial(functional_call, model)
    optimizer = torch.optim.Adam(list(params.values()), lr=cfg.lr)
    best, snapshot = 0.0, None
    for epoch in range(cfg.epochs):
        for batch in batches(rng, train, cfg.batch_size, shuffle=True):
            loss, terms = train_step(apply, params, optimizer, augment(rng, batch), cfg)
        direction, kind, error = evaluate(apply, params, val, 100)
        print(f"epoch {epoch} loss {loss:.3f} direction {direction:.3f} kind {kind:.3f} center error {error:.3f}")
        if direction + kind > best:
            best = direction + kind
            snapshot = {name: p.detach().clone() for name, p in params.items()}
    print("best (direction, kind, center):", evaluate(apply, snapshot, val, 100))


if __name__ == "__main__":
    main()
