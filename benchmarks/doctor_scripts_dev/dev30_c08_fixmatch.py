"""Self-training (FixMatch): 200 labeled digits, and 1000 whose labels the network guesses itself when it is sure."""

import argparse
import itertools

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


def prepare(images):
    return (images.float() / 255 - 0.17) / 0.3


def shift(images, most):
    """Each image shifted by up to `most` pixels, filled up with ground."""
    n, _, h, w = images.shape
    padded = F.pad(images, [most] * 4, value=-0.5)
    dy, dx = torch.randint(0, 2 * most + 1, (2, n))
    rows = dy[:, None] + torch.arange(h)
    columns = dx[:, None] + torch.arange(w)
    return padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def weak(images):
    return shift(images, 1)


def strong(images):
    images = shift(images, 1)
    images = images * (0.7 + 0.6 * torch.rand(len(images), 1, 1, 1)) + 0.3 * torch.randn_like(images)
    top, left = torch.randint(0, 13, (2, len(images), 1, 1, 1))
    y, x = torch.arange(16).view(1, 1, 16, 1), torch.arange(16).view(1, 1, 1, 16)
    hole = (y >= top) & (y < top + 4) & (x >= left) & (x < left + 4)
    return images.masked_fill(hole, -0.5)


def make_model():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        prediction = model(images).argmax(1)
    model.train()
    return (prediction == labels).float().mean().item()


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--labeled", type=int, default=200)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--ratio", type=int, default=2)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=0.03)
    return parser.parse_args()


def main():
    args = parse()
    torch.manual_seed(0)
    images, labels = draw_digits(1200, seed=0)
    images = prepare(images)
    val_images, val_labels = draw_digits(300, seed=1)
    val_images = prepare(val_images)
    labeled = TensorDataset(images[: args.labeled], labels[: args.labeled])
    unlabeled = TensorDataset(images[args.labeled :])
    labeled_loader = DataLoader(labeled, args.batch, shuffle=True, drop_last=True)
    unlabeled_loader = DataLoader(unlabeled, args.batch * args.ratio, shuffle=True, drop_last=True)

    def endless(loader):
        while True:
            yield from loader

    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    batches = zip(endless(labeled_loader), endless(unlabeled_loader))
    for step, ((x, y), (u,)) in enumerate(itertools.islice(batches, args.steps), start=1):
        x, u_weak, u_strong = weak(x), weak(u), strong(u)
        out = model(torch.cat([x, u_weak, u_strong]))
        out_x, out_weak, out_strong = out.split([len(x), len(u), len(u)])
        with torch.no_grad():
            sure, guess = out_weak.softmax(1).max(1)
            mask = (sure >= args.threshold).float()
        loss_x = F.cross_entropy(out_x, y)
        loss_u = (F.cross_entropy(out_strong, guess, reduction="none") * mask).mean()
        loss = loss_x + args.weight * loss_u
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 50 == 0:
            print(
                f"step {step:4d}  labeled {loss_x.item():.3f}  guessed {loss_u.item():.3f}  sure {mask.mean().item():.2f}"
                f"  val accuracy {accuracy(model, val_images, val_labels):.3f}"
            )


if __name__ == "__main__":
    main()
