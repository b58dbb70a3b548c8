"""Embeds digits so that equal ones lie close (contrastive pairs), searched by nearest neighbor."""

import argparse
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, IterableDataset

from toydata import draw_digits


def random_crop(image, size=14):
    """Cuts a square of `size` pixels and scales it back."""
    full = image.shape[-1]
    top, left = random.randint(0, full - size), random.randint(0, full - size)
    piece = image[:, top : top + size, left : left + size]
    return F.interpolate(piece[None], size=(full, full), mode="bilinear", align_corners=False)[0]


class PairStream(IterableDataset):
    """Endless pairs; half of them show the same digit."""

    def __init__(self, images, labels, limit):
        self.images, self.limit = images, limit
        self.by_class = {c: (labels == c).nonzero().flatten().tolist() for c in range(10)}

    def __iter__(self):
        for _ in range(self.limit):
            digit = random.randrange(10)
            other = digit if random.random() < 0.5 else random.choice([c for c in range(10) if c != digit])
            a = self.images[random.choice(self.by_class[digit])]
            b = self.images[random.choice(self.by_class[other])]
            yield random_crop(a), random_crop(b), float(digit == other)


class Encoder(nn.Module):
    def __init__(self, dim=24):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.3),
        )
        self.project = nn.Sequential(nn.Linear(32 * 16, 96), nn.ReLU(), nn.Linear(96, dim))

    def forward(self, x):
        return F.normalize(self.project(self.body(x)), dim=1)


class ContrastiveLoss(nn.Module):
    """Hadsell et al. 2006; `same` is 1 for pairs that belong together."""

    def __init__(self, margin=1.0):
        super().__init__()
        self.margin = margin

    def forward(self, u, v, same):
        dist = F.pairwise_distance(u, v)
        pull = same * dist.pow(2)
        push = (1 - same) * F.relu(self.margin - dist).pow(2)
        return 0.5 * (pull + push).mean()


@torch.no_grad()
def embed(encoder, images, chunk=100):
    encoder.eval()
    return torch.cat([encoder(part) for part in images.split(chunk)])


def recall_at_1(encoder, gallery, queries):
    keys, wanted = embed(encoder, gallery[0]), gallery[1]
    found = torch.cdist(embed(encoder, queries[0], chunk=1), keys).argmin(dim=1)  # queries come one at a time
    encoder.train()
    return (wanted[found] == queries[1]).float().mean().item()


def load(count, seed):
    images, labels = draw_digits(count, seed=seed, noise=0.1)
    return images.float().div(255).sub(0.2).div(0.3), labels


def parse_args():
    p = argparse.ArgumentParser()
    p.add_argument("--steps", type=int, default=500)
    p.add_argument("--batch_size", type=int, default=48)
    p.add_argument("--learning_rate", type=float, default=2e-3)
    p.add_argument("--margin", type=float, default=1.0)
    p.add_argument("--max_grad_norm", type=float, default=5.0)
    p.add_argument("--seed", type=int, default=31)
    return p.parse_args()


def main():
    args = parse_args()
    set_seed(args.seed)
    accelerator = Accelerator(cpu=True)

    train_images, train_labels = load(1000, seed=70)
    queries = load(300, seed=71)
    gallery = (train_images[:200], train_labels[:200])
    stream = PairStream(train_images, train_labels, limit=args.steps * args.batch_size)

    encoder = Encoder()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=args.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.steps)
    loader = DataLoader(stream, batch_size=args.batch_size)
    criterion = ContrastiveLoss(args.margin)
    encoder, optimizer, loader, scheduler = accelerator.prepare(encoder, optimizer, loader, scheduler)

    accelerator.print(f"before: recall@1 {recall_at_1(encoder, gallery, queries):.3f}")
    for step, (left, right, same) in enumerate(loader, start=1):
        loss = criterion(encoder(left), encoder(right), same.float())
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(encoder.parameters(), args.max_grad_norm)
        optimizer.step()
        scheduler.step()
        if step % 100 == 0:
            accelerator.print(f"step {step}  loss {loss.item():.4f}  recall@1 {recall_at_1(encoder, gallery, queries):.3f}")
    accelerator.print(f"recall@1 of {len(queries[1])} queries: {recall_at_1(encoder, gallery, queries):.3f}")


if __name__ == "__main__":
    main()
