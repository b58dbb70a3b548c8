"""Denoising by residual learning: an endless stream of fresh noisy crops, a fixed validation set, PSNR, an averaged network."""
import argparse
import copy
import itertools

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from toydata import Shapes


def smooth_scenes(train, count):
    """Clean pictures: shapes without the noise of the data set, with a slope of light."""
    base = Shapes(train=train, count=count, size=24)
    clean = torch.stack(base.images)
    masks = torch.stack(base.masks)[:, None] > 0
    inside = (clean * masks).sum((2, 3), keepdim=True) / masks.sum((2, 3), keepdim=True)
    clean = torch.where(masks, inside, torch.tensor(0.5))
    slope = torch.linspace(-0.15, 0.15, 24)
    return clean + slope.view(1, 1, 1, -1) * torch.linspace(-1, 1, count).view(-1, 1, 1, 1)


class NoisyPatches(IterableDataset):
    def __init__(self, clean, sigma, seed, patch=20):
        self.clean, self.sigma, self.patch = clean, sigma, patch
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self):
        g, room = self.generator, self.clean.shape[-1] - self.patch + 1
        while True:
            for i in torch.randperm(len(self.clean), generator=g).tolist():
                top, left = torch.randint(room, (2,), generator=g).tolist()
                patch = self.clean[i, :, top:top + self.patch, left:left + self.patch]
                if torch.rand((), generator=g) < 0.5:
                    patch = patch.flip(-1)
                yield patch + self.sigma * torch.randn(patch.shape, generator=g), patch


class DnCNN(nn.Module):
    """Predicts the noise, which is taken off; inputs lie about zero after the shift by a half."""

    def __init__(self, width=32, depth=5):
        super().__init__()
        layers = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(width, 3, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, noisy):
        return noisy - 0.2 * self.layers((noisy - 0.5) / 0.25)


@torch.no_grad()
def psnr(model, loader):
    model.eval()
    values = [-10 * torch.log10(((model(noisy).clamp(0, 1) - clean) ** 2).mean((1, 2, 3))) for noisy, clean in loader]
    return torch.cat(values).mean().item()


@torch.no_grad()
def follow(average, model, decay):
    for a, p in zip(average.parameters(), model.parameters()):
        a.lerp_(p, 1 - decay)
    for a, b in zip(average.buffers(), model.buffers()):
        a.copy_(b)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sigma", type=float, default=0.15)
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--every", type=int, default=80)
    args = parser.parse_args()
    torch.manual_seed(0)

    stream = NoisyPatches(smooth_scenes(True, 600), args.sigma, seed=1)
    clean = smooth_scenes(False, 120)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(99))
    loader = DataLoader(stream, batch_size=args.batch_size)
    valid = DataLoader(TensorDataset(clean + args.sigma * noise, clean), batch_size=60)

    model = DnCNN()
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.iterations, eta_min=args.lr / 50)
    noisy_level = torch.cat([-10 * torch.log10(((n.clamp(0, 1) - c) ** 2).mean((1, 2, 3))) for n, c in valid]).mean()
    print(f"noisy pictures: {noisy_level:.2f} dB")
    running = 0.0
    for step, (noisy, target) in enumerate(itertools.islice(loader, args.iterations), start=1):
        model.train()
        loss = 100 * nn.functional.mse_loss(model(noisy), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        follow(average, model, min(0.97, step / (step + 10)))
        running += loss.detach()
        if step % args.every == 0:
            print(f"step {step} loss {running / args.every:.4f} psnr {psnr(model, valid):.2f} dB, average {psnr(average, valid):.2f} dB")
            running = 0.0


if __name__ == "__main__":
    main()
