"""Image classification with mixup, cutmix and an exponential moving average of the weights."""

import argparse
import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description="mixup/cutmix training")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--mixup", type=float, default=0.2)
    parser.add_argument("--cutmix", type=float, default=1.0)
    parser.add_argument("--mix-prob", type=float, default=0.5, help="share of the batches that are mixed")
    parser.add_argument("--ema-decay", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(argv)


class Mixer:
    """Mixes a batch with itself in another order; labels become distributions."""

    def __init__(self, num_classes, mixup, cutmix, prob, rng):
        self.num_classes, self.mixup, self.cutmix, self.prob, self.rng = num_classes, mixup, cutmix, prob, rng

    def __call__(self, images, labels):
        targets = F.one_hot(labels, self.num_classes).float()
        if self.rng.random() >= self.prob:
            return images, targets
        order = torch.randperm(len(images))
        if self.rng.random() < 0.5:
            lam = float(self.rng.beta(self.mixup, self.mixup))
            images = lam * images + (1 - lam) * images[order]
        else:
            lam = float(self.rng.beta(self.cutmix, self.cutmix))
            height, width = images.shape[-2:]
            cut_h, cut_w = int(height * (1 - lam) ** 0.5), int(width * (1 - lam) ** 0.5)
            cy, cx = int(self.rng.integers(height)), int(self.rng.integers(width))
            y0, y1 = max(cy - cut_h // 2, 0), min(cy + cut_h // 2, height)
            x0, x1 = max(cx - cut_w // 2, 0), min(cx + cut_w // 2, width)
            images = images.clone()
            images[:, :, y0:y1, x0:x1] = images[order][:, :, y0:y1, x0:x1]
            lam = 1 - (y1 - y0) * (x1 - x0) / (height * width)
        return images, lam * targets + (1 - lam) * targets[order]


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.module.requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for average, value in zip(self.module.state_dict().values(), model.state_dict().values()):
            if average.dtype.is_floating_point:
                average.mul_(decay).add_(value, alpha=1 - decay)
            else:
                average.copy_(value)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.skip(x))


def build_model(num_classes=10):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16, 32, 2),
        Block(32, 64, 2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, num_classes),
    )


@torch.no_grad()
def accuracy(model, loader):
    training = model.training
    model.eval()
    correct = count = 0
    for images, labels in loader:
        correct += (model(images).argmax(1) == labels).sum().item()
        count += labels.numel()
    model.train(training)
    return correct / count


def main(args):
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    statistics = Digits(train=True, count=2000).data.float() / 255
    mean, std = statistics.mean().item(), statistics.std().item()

    def plain(image):
        return (image.float() / 255 - mean) / std

    def shifted(image):  # glyphs keep at least one pixel from the edge
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        return plain(torch.roll(image, (dy, dx), dims=(1, 2)))

    train_loader = DataLoader(
        Digits(train=True, count=2000, transform=shifted), args.batch_size, shuffle=True, drop_last=True
    )
    val_loader = DataLoader(Digits(train=False, count=500, transform=plain), 250)

    model = build_model()
    ema = ModelEma(model, args.ema_decay)
    mixer = Mixer(10, args.mixup, args.cutmix, args.mix_prob, rng)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)

    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for images, labels in train_loader:
            images, targets = mixer(images, labels)
            loss = F.cross_entropy(model(images), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            ema.update(model)
            running += loss.item()
        scheduler.step()
        print(
            f"epoch {epoch:2d} mixed loss {running / len(train_loader):.3f} "
            f"val acc {accuracy(model, val_loader):.3f} val acc (ema) {accuracy(ema.module, val_loader):.3f}"
        )


if __name__ == "__main__":
    main(parse_args())
