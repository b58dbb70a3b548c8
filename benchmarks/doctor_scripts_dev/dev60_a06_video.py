"""Direction of motion in short clips, written with pure functions over a dictionary of parameters."""
import math
from typing import Dict, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call

Params = Dict[str, torch.Tensor]

DIRECTIONS = ["right", "left", "down", "up"]
STEPS = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # x, y of each frame
MIRRORED = torch.tensor([1, 0, 2, 3])  # what a direction is in a mirror


class Config(NamedTuple):
    frames: int = 6
    size: int = 12
    train_clips: int = 1200
    val_clips: int = 300
    batch_size: int = 40
    epochs: int = 10
    lr: float = 3e-3
    weight_decay: float = 1e-3
    warmup: int = 15
    seed: int = 0


class Batch(NamedTuple):
    clips: torch.Tensor  # (B, T, 1, H, W)
    labels: torch.Tensor  # (B,)


def make_clips(cfg: Config, count: int, generator: torch.Generator) -> Batch:
    """A blob that moves by one pixel a frame, on noise."""
    labels = torch.randint(0, 4, (count,), generator=generator)
    middle = cfg.size / 2 - 0.5 + 3.0 * (torch.rand(count, 2, generator=generator) - 0.5)
    time = torch.arange(cfg.frames) - (cfg.frames - 1) / 2
    centers = middle[:, None] + time[None, :, None] * STEPS[labels][:, None]  # (N, T, 2)
    axis = torch.arange(cfg.size)
    dx = axis[None, None, None, :] - centers[..., 0, None, None]
    dy = axis[None, None, :, None] - centers[..., 1, None, None]
    clips = torch.exp(-(dx**2 + dy**2) / 4.0)
    clips = clips + 0.15 * torch.randn(clips.shape, generator=generator)
    return Batch(((clips - 0.09) / 0.25).unsqueeze(2), labels)


class ClipNet(nn.Module):
    def __init__(self, frames: int, classes: int = 4):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.mix = nn.Linear(frames * 16 * 9, 64)
        self.out = nn.Linear(64, classes)

    def forward(self, clips):
        b, t = clips.shape[:2]
        h = clips.reshape(b * t, *clips.shape[2:])
        h = F.max_pool2d(F.relu(self.conv1(h)), 2)
        h = F.max_pool2d(F.relu(self.conv2(h)), 2)
        h = h.reshape(b, t, -1)
        h = F.relu(self.mix(h.flatten(1)))
        return self.out(h)


def init_params(model: nn.Module, generator: torch.Generator) -> Params:
    params = {}
    for name, p in model.named_parameters():
        if p.ndim > 1:
            fan_in = p[0].numel()
            gain = 1.0 if name.startswith("out") else 2.0
            value = torch.randn(p.shape, generator=generator) * math.sqrt(gain / fan_in)
        else:
            value = torch.zeros(p.shape)
        params[name] = value.requires_grad_()
    return params


def augment(batch: Batch, generator: torch.Generator) -> Batch:
    """Mirror half of the clips; left and right change places."""
    mirror = torch.rand(len(batch.labels), generator=generator) < 0.5
    clips = torch.where(mirror[:, None, None, None, None], batch.clips.flip(-1), batch.clips)
    labels = torch.where(mirror, MIRRORED[batch.labels], batch.labels)
    return Batch(clips, labels)


def batches(data: Batch, size: int, generator: torch.Generator):
    order = torch.randperm(len(data.labels), generator=generator)
    for index in order.split(size):
        yield Batch(data.clips[index], data.labels[index])


def main():
    cfg = Config()
    generator = torch.Generator().manual_seed(cfg.seed)
    train_data = make_clips(cfg, cfg.train_clips, generator)
    val_data = make_clips(cfg, cfg.val_clips, generator)

    model = ClipNet(cfg.frames)
    params = init_params(model, generator)

    def apply(params: Params, clips: torch.Tensor) -> torch.Tensor:
        return functional_call(model, params, (clips,))

    def loss_fn(params: Params, batch: Batch) -> torch.Tensor:
        return F.cross_entropy(apply(params, batch.clips), batch.labels)

    @torch.no_grad()
    def evaluate(params: Params, data: Batch):
        correct, loss = 0, 0.0
        for index in torch.arange(len(data.labels)).split(100):
            logits = apply(params, data.clips[index])
            loss += F.cross_entropy(logits, data.labels[index], reduction="sum").item()
            correct += (logits.argmax(-1) == data.labels[index]).sum().item()
        return loss / len(data.labels), correct / len(data.labels)

    total = cfg.epochs * math.ceil(cfg.train_clips / cfg.batch_size)

    def schedule(step: int) -> float:
        if step < cfg.warmup:
            return (step + 1) / cfg.warmup
        return 0.5 * (1 + math.cos(math.pi * (step - cfg.warmup) / (total - cfg.warmup)))

    optimizer = torch.optim.AdamW(list(params.values()), lr=cfg.lr, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)

    best = (math.inf, None)
    for epoch in range(cfg.epochs):
        running, count = 0.0, 0
        for batch in batches(train_data, cfg.batch_size, generator):
            batch = augment(batch, generator)
            loss = loss_fn(params, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            running, count = running + loss.item() * len(batch.labels), count + len(batch.labels)
        val_loss, val_acc = evaluate(params, val_data)
        if val_loss < best[0]:
            best = (val_loss, {name: p.detach().clone() for name, p in params.items()})
        print(f"epoch {epoch:2d} | train {running / count:.4f} | val {val_loss:.4f} | accuracy {val_acc:.3f}")

    print("best: loss %.4f, accuracy %.3f" % evaluate(best[1], val_data))


if __name__ == "__main__":
    main()
