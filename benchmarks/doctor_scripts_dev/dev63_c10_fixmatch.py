"""FixMatch on digits: a few labeled images, many unlabeled ones, pseudo-labels from weak views for strong views."""

import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


def shift(images, most):
    """Each image is moved by its own random offset, up to `most` pixels each way."""
    n, _, h, w = images.shape
    padded = F.pad(images, (most, most, most, most))
    offsets = torch.randint(0, 2 * most + 1, (n, 2)).tolist()
    return torch.stack([padded[i, :, t : t + h, l : l + w] for i, (t, l) in enumerate(offsets)])


def weak(images):
    return shift(images, 1)


def strong(images):
    """Shift, contrast, noise and a small hole."""
    n, _, h, w = images.shape
    images = shift(images, 1) * (0.7 + 0.6 * torch.rand(n, 1, 1, 1))
    images = images + 0.1 * torch.randn(images.shape)
    rows, columns = torch.arange(h).view(1, 1, h, 1), torch.arange(w).view(1, 1, 1, w)
    top = torch.randint(0, h - 3, (n, 1, 1, 1))
    left = torch.randint(0, w - 3, (n, 1, 1, 1))
    hole = (rows >= top) & (rows < top + 3) & (columns >= left) & (columns < left + 3)
    return images.masked_fill(hole, 0.0)


def normalize(images):
    return (images - 0.18) / 0.33


class ConvNet(nn.Module):
    def __init__(self, width=16, classes=10):
        super().__init__()

        def layer(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.1))

        self.body = nn.Sequential(
            layer(1, width), nn.MaxPool2d(2), layer(width, 2 * width), nn.MaxPool2d(2), layer(2 * width, 2 * width)
        )
        self.fc = nn.Linear(2 * width * 16, classes)

    def forward(self, x):
        return self.fc(self.body(x).flatten(1))


def infinite(loader):
    while True:
        yield from loader


def cosine_factor(step, total):
    return math.cos(7 * math.pi * step / (16 * total))


@torch.no_grad()
def test(model, loader):
    model.eval()
    correct = count = 0
    for x, y in loader:
        correct += (model(normalize(x)).argmax(1) == y).sum().item()
        count += len(y)
    return correct / count


def main():
    parser = argparse.ArgumentParser(description="FixMatch")
    parser.add_argument("--num-labeled", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--mu", type=int, default=2)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--lambda-u", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    images, labels = draw_digits(1500, seed=0)
    images = images.float() / 255
    test_images, test_labels = draw_digits(300, seed=1)
    labeled = TensorDataset(images[: args.num_labeled], labels[: args.num_labeled])
    unlabeled = TensorDataset(images[args.num_labeled :])
    held_out = TensorDataset(test_images.float() / 255, test_labels)

    labeled_loader = DataLoader(labeled, args.batch_size, shuffle=True, drop_last=True)
    unlabeled_loader = DataLoader(unlabeled, args.batch_size * args.mu, shuffle=True, drop_last=True)
    test_loader = DataLoader(held_out, 100)

    model = ConvNet()
    no_decay = [p for n, p in model.named_parameters() if p.ndim == 1]
    decay = [p for n, p in model.named_parameters() if p.ndim > 1]
    optimizer = torch.optim.SGD(
        [{"params": decay, "weight_decay": 5e-4}, {"params": no_decay, "weight_decay": 0.0}],
        lr=args.lr, momentum=0.9, nesterov=True,
    )
    steps = len(unlabeled_loader)
    total = args.epochs * steps
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_factor(step, total))
    labeled_stream = infinite(labeled_loader)

    for epoch in range(args.epochs):
        model.train()
        sum_x = sum_u = sum_mask = 0.0
        for (u,) in unlabeled_loader:
            x, y = next(labeled_stream)
            x, u_weak, u_strong = normalize(weak(x)), normalize(weak(u)), normalize(strong(u))
            with torch.no_grad():
                logits_weak = model(u_weak)
            logits_x = model(x)
            logits_strong = model(u_strong)

            confidence, pseudo = torch.softmax(logits_weak, dim=1).max(dim=1)
            mask = (confidence >= args.threshold).float()
            loss_x = F.cross_entropy(logits_x, y)
            loss_u = (F.cross_entropy(logits_strong, pseudo, reduction="none") * mask).mean()
            loss = loss_x + args.lambda_u * loss_u

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            sum_x += loss_x.item()
            sum_u += loss_u.item()
            sum_mask += mask.mean().item()
        print(
            f"epoch {epoch}: loss_x {sum_x / steps:.4f} loss_u {sum_u / steps:.4f} "
            f"mask {sum_mask / steps:.2f} test accuracy {test(model, test_loader):.3f}"
        )


if __name__ == "__main__":
    main()
