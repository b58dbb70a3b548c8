"""Direction of motion (4 classes) and size of a moving block (regression), functional style: params in, loss out."""
import argparse
from functools import partial
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call

STEPS = ((0, 2), (0, -2), (2, 0), (-2, 0))  # right, left, down, up
FRAMES, SIDE = 5, 16


class Clips(NamedTuple):
    video: torch.Tensor  # (N, T, 1, H, W)
    direction: torch.Tensor  # (N,)
    size: torch.Tensor  # (N,), standardized


def render(key, count):
    g = torch.Generator().manual_seed(key)
    direction = torch.randint(0, 4, (count,), generator=g)
    width = torch.randint(2, 6, (count,), generator=g)
    video = 0.1 * torch.randn(count, FRAMES, 1, SIDE, SIDE, generator=g)
    travel = 2 * (FRAMES - 1)
    for n in range(count):
        w, (dy, dx) = int(width[n]), STEPS[int(direction[n])]
        start = []
        for delta in (dy, dx):
            room = SIDE - w - (travel if delta else 0)
            offset = int(torch.randint(0, room + 1, (1,), generator=g))
            start.append(offset + travel if delta < 0 else offset)
        for t in range(FRAMES):
            y, x = start[0] + dy * t, start[1] + dx * t
            video[n, t, 0, y : y + w, x : x + w] += 1.0
    return Clips((video - 0.05) / 0.25, direction, (width.float() - 3.5) / 1.118)


class VideoNet(nn.Module):
    def __init__(self, width=12, hidden=48):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.embed = nn.Linear(2 * width * 16, hidden)
        self.rnn = nn.GRU(hidden, hidden, batch_first=True)
        self.direction = nn.Linear(hidden, 4)
        self.size = nn.Linear(hidden, 1)

    def forward(self, video):
        b, t = video.shape[:2]
        h = F.relu(self.conv1(video.flatten(0, 1)))
        h = F.relu(self.conv2(h)).flatten(1)
        h = F.relu(self.embed(h)).view(b, t, -1)
        out, _ = self.rnn(h)
        last = out[:, -1]
        return self.direction(last), self.size(last).squeeze(-1)


def augment(clips, generator):
    """Random contrast for each clip."""
    gain = 0.8 + 0.4 * torch.rand(len(clips.video), 1, 1, 1, 1, generator=generator)
    return clips._replace(video=clips.video * gain)


def batches(clips, batch_size, generator):
    order = torch.randperm(len(clips.video), generator=generator)
    clips = Clips(*(field[order] for field in clips))
    for i in range(0, len(order) - batch_size + 1, batch_size):
        yield Clips(*(field[i : i + batch_size] for field in clips))


def loss_fn(apply, params, clips, size_weight):
    logits, size = apply(params, (clips.video,))
    ce = F.cross_entropy(logits, clips.direction)
    mse = F.mse_loss(size, clips.size)
    aux = {"ce": ce.detach(), "mse": mse.detach()}
    return ce + size_weight * mse, aux


def make_update(apply, params, optimizer, scheduler, args):
    def update(clips):
        loss, aux = loss_fn(apply, params, clips, args.size_weight)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params.values(), args.clip)
        optimizer.step()
        scheduler.step()
        return loss.detach(), aux

    return update


@torch.no_grad()
def evaluate(apply, params, clips, size_weight, batch_size=100):
    total = {"loss": 0.0, "accuracy": 0.0, "mae": 0.0}
    n = len(clips.video)
    for i in range(0, n, batch_size):
        part = Clips(*(field[i : i + batch_size] for field in clips))
        logits, size = apply(params, (part.video,))
        loss = F.cross_entropy(logits, part.direction, reduction="sum")
        loss = loss + size_weight * F.mse_loss(size, part.size, reduction="sum")
        total["loss"] += loss.item()
        total["accuracy"] += (logits.argmax(-1) == part.direction).sum().item()
        total["mae"] += (size - part.size).abs().sum().item()
    return {name: value / n for name, value in total.items()}


def snapshot(params):
    return {name: p.detach().clone() for name, p in params.items()}


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train-clips", type=int, default=960)
    parser.add_argument("--val-clips", type=int, default=240)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--size-weight", type=float, default=1.0)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    train_clips, val_clips = render(100, args.train_clips), render(101, args.val_clips)

    model = VideoNet()
    params = dict(model.named_parameters())
    apply = partial(functional_call, model)
    optimizer = torch.optim.Adam(list(params.values()), lr=args.lr)
    total_steps = args.epochs * (args.train_clips // args.batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total_steps, eta_min=args.lr / 50)
    update = make_update(apply, params, optimizer, scheduler, args)

    best_loss, best_params = float("inf"), None
    for epoch in range(args.epochs):
        losses = []
        for clips in batches(train_clips, args.batch_size, generator):
            loss, aux = update(augment(clips, generator))
            losses.append(loss)
        val = evaluate(apply, params, val_clips, args.size_weight)
        if val["loss"] < best_loss:
            best_loss, best_params = val["loss"], snapshot(params)
        print(f"epoch {epoch} train {torch.stack(losses).mean():.3f} " + " ".join(f"{k} {v:.3f}" for k, v in val.items()))
    final = evaluate(apply, best_params, val_clips, args.size_weight)
    print("best parameters:", {k: round(v, 4) for k, v in final.items()})


if __name__ == "__main__":
    main()
