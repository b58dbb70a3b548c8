"""Two tasks on short clips: which way a blob moves, and how fast. In functional style, as one writes it coming from JAX."""

import argparse
from typing import Dict, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call

Params = Dict[str, torch.Tensor]
DIRECTIONS = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])

class Clips(NamedTuple):
    frames: torch.Tensor  # n, time, channels, height, width
    direction: torch.Tensor  # n, whole numbers from 0 to 3
    speed: torch.Tensor  # n, standardized

def make_clips(count: int, seed: int, steps: int = 6, size: int = 16) -> Clips:
    g = torch.Generator().manual_seed(seed)
    direction = torch.randint(0, 4, (count,), generator=g)
    speed = 0.5 + 1.5 * torch.rand(count, generator=g)  # pixels a frame
    middle = size / 2 - 0.5 + 4 * (torch.rand(count, 2, generator=g) - 0.5)
    color = 0.5 + torch.rand(count, 3, generator=g)
    time = torch.arange(steps) - (steps - 1) / 2
    offset = DIRECTIONS[direction] * speed[:, None]  # n, 2
    centers = middle[:, None] + time[None, :, None] * offset[:, None]  # n, time, 2
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    cx, cy = centers[..., 0, None, None], centers[..., 1, None, None]
    blob = torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 1.5**2))  # n, time, h, w
    frames = blob[:, :, None] * color[:, None, :, None, None]
    frames = frames + 0.1 * torch.randn(frames.shape, generator=g)
    return Clips((frames - 0.06) / 0.25, direction, (speed - 1.25) / 0.433)

class VideoNet(nn.Module):
    def __init__(self, width: int = 12, dropout: float = 0.1):
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2))
        self.conv2 = nn.Conv3d(width, 2 * width, 3, stride=(1, 2, 2), padding=1)
        self.conv3 = nn.Conv3d(2 * width, 2 * width, 3, stride=(2, 1, 1), padding=1)
        self.norm1 = nn.GroupNorm(4, width)
        self.norm2 = nn.GroupNorm(4, 2 * width)
        self.drop = nn.Dropout(dropout)
        self.trunk = nn.Linear(2 * width * 3 * 4 * 4, 64)
        self.direction = nn.Linear(64, 4)
        self.speed = nn.Linear(64, 1)

    def forward(self, frames):
        x = frames.permute(0, 2, 1, 3, 4).contiguous()  # Conv3d wants channels before time
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        x = F.relu(self.conv3(x)).flatten(1)
        x = F.relu(self.trunk(self.drop(x)))
        return self.direction(x), self.speed(x)

def init_params(module: nn.Module) -> Params:
    """A copy of the parameters; the module itself is only the definition of the function."""
    return {name: p.detach().clone().requires_grad_(True) for name, p in module.named_parameters()}

def make_apply(module: nn.Module):
    def apply_fn(params: Params, frames, train: bool):
        module.train(train)
        return functional_call(module, params, (frames,))

    return apply_fn

def make_loss(apply_fn, speed_weight: float):
    def loss_fn(params: Params, batch: Clips):
        logits, speed = apply_fn(params, batch.frames, train=True)
        direction_loss = F.cross_entropy(logits, batch.direction)
        speed_loss = F.smooth_l1_loss(speed.squeeze(-1), batch.speed)
        aux = {"direction": direction_loss.detach(), "speed": speed_loss.detach()}
        return direction_loss + speed_weight * speed_loss, aux

    return loss_fn

def batches(clips: Clips, batch_size: int, generator: torch.Generator):
    order = torch.randperm(len(clips.direction), generator=generator)
    for start in range(0, len(order) - batch_size + 1, batch_size):
        index = order[start : start + batch_size]
        yield Clips(clips.frames[index], clips.direction[index], clips.speed[index])

def make_update(loss_fn, optimizer, scheduler):
    def update(params: Params, batch: Clips):
        loss, aux = loss_fn(params, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        return loss.detach(), aux

    return update

@torch.no_grad()
def evaluate(apply_fn, params: Params, clips: Clips, batch_size: int = 100):
    correct, squared = 0, 0.0
    for start in range(0, len(clips.direction), batch_size):
        batch = Clips(*(field[start : start + batch_size] for field in clips))
        logits, speed = apply_fn(params, batch.frames, train=False)
        correct += (logits.argmax(-1) == batch.direction).sum().item()
        squared += ((speed.squeeze(-1) - batch.speed) ** 2).sum().item()
    n = len(clips.direction)
    r2 = 1 - squared / ((clips.speed - clips.speed.mean()) ** 2).sum().item()
    return {"accuracy": correct / n, "r2": r2}

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--speed-weight", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    train_clips, val_clips = make_clips(800, seed=100), make_clips(200, seed=101)
    module = VideoNet()
    apply_fn = make_apply(module)
    params = init_params(module)
    total = args.epochs * (len(train_clips.direction) // args.batch_size)
    optimizer = torch.optim.AdamW(list(params.values()), lr=args.lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=args.lr, total_steps=total, pct_start=0.1)
    loss_fn = make_loss(apply_fn, args.speed_weight)
    update = make_update(loss_fn, optimizer, scheduler)
    generator = torch.Generator().manual_seed(args.seed)
    best, best_params = -1.0, None
    for epoch in range(args.epochs):
        history = []
        for batch in batches(train_clips, args.batch_size, generator):
            loss, aux = update(params, batch)
            history.append(torch.stack([loss, aux["direction"], aux["speed"]]))
        loss, direction_loss, speed_loss = torch.stack(history).mean(0).tolist()
        metrics = evaluate(apply_fn, params, val_clips)
        print(
            f"epoch {epoch} loss {loss:.3f} (direction {direction_loss:.3f}, speed {speed_loss:.3f}) "
            f"val accuracy {metrics['accuracy']:.3f} R2 {metrics['r2']:.3f}"
        )
        if metrics["accuracy"] > best:
            best, best_params = metrics["accuracy"], {k: v.detach().clone() for k, v in params.items()}
    print("best", evaluate(apply_fn, best_params, val_clips))

if __name__ == "__main__":
    main()
