"""FixMatch on digits: 200 labels, 2000 images without; sure answers to weak views are the targets of strong views."""

import argparse
import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from toydata import draw_digits


def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--labels-per-class", type=int, default=20)
    parser.add_argument("--unlabeled", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=26)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--mu", type=int, default=2, help="unlabeled images per labeled one")
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--lambda-u", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


class Augment:
    """Works on batches in [0, 1] and standardizes at the end."""

    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def shift(self, images, reach=1):
        count, size = len(images), images.shape[-1]
        windows = F.pad(images, [reach] * 4).unfold(2, size, 1).unfold(3, size, 1)
        rows, columns = torch.randint(0, 2 * reach + 1, (2, count))
        return windows[torch.arange(count), :, rows, columns]

    def plain(self, images):
        return (images - self.mean) / self.std

    def weak(self, images):
        return self.plain(self.shift(images))

    def strong(self, images):
        images = self.shift(images)
        images = images * (0.6 + 0.6 * torch.rand(len(images), 1, 1, 1))
        images = images + 0.15 * torch.randn_like(images)
        return self.plain(images)


def split(args):
    """The first images of every class keep their labels; of the others the labels are not used at all."""
    images, labels = draw_digits(args.unlabeled + 10 * args.labels_per_class, seed=args.seed)
    images = images.float() / 255
    chosen = torch.cat([torch.nonzero(labels == digit).flatten()[: args.labels_per_class] for digit in range(10)])
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[chosen] = False
    return TensorDataset(images[chosen], labels[chosen]), TensorDataset(images[rest])


class SmallNet(nn.Module):
    def __init__(self):
        super().__init__()
        channels = [1, 16, 32, 64]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in itertools.pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in channels[1:])
        self.fc = nn.Linear(64 * 4, 10)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms):
            x = F.max_pool2d(F.leaky_relu(norm(conv(x)), 0.1), 2)
        return self.fc(x.flatten(1))


@torch.no_grad()
def accuracy(model, images, labels):
    model.eval()
    predictions = torch.cat([model(part).argmax(1) for part in images.split(100)])
    return (predictions == labels).float().mean().item()


def main():
    args = get_args()
    torch.manual_seed(args.seed)
    labeled, unlabeled = split(args)
    pixels = torch.cat([labeled.tensors[0], unlabeled.tensors[0]])
    augment = Augment(pixels.mean().item(), pixels.std().item())
    valid_images, valid_labels = draw_digits(400, seed=args.seed + 1)
    valid_images = augment.plain(valid_images.float() / 255)

    unlabeled_loader = DataLoader(unlabeled, batch_size=args.batch * args.mu, shuffle=True, drop_last=True)
    steps = len(unlabeled_loader)
    # as many batches of labeled images as of the others: they are drawn over and over
    sampler = RandomSampler(labeled, replacement=True, num_samples=steps * args.batch)
    labeled_loader = DataLoader(labeled, batch_size=args.batch, sampler=sampler)

    model = SmallNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=5e-3)
    total = args.epochs * steps
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: math.cos(7 * math.pi * step / (16 * total)))

    for epoch in range(args.epochs):
        model.train()
        sums = torch.zeros(3)
        for (images, labels), (others,) in zip(labeled_loader, unlabeled_loader):
            inputs = torch.cat([augment.weak(images), augment.weak(others), augment.strong(others)])
            logits = model(inputs)
            supervised, weak, strong = logits.split([len(images), len(others), len(others)])

            loss_x = F.cross_entropy(supervised, labels)
            confidence, pseudo = weak.detach().softmax(1).max(1)
            mask = (confidence >= args.threshold).float()
            loss_u = (F.cross_entropy(strong, pseudo, reduction="none") * mask).mean()
            loss = loss_x + args.lambda_u * loss_u

            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            sums += torch.stack([loss_x.detach(), loss_u.detach(), mask.mean()])
        loss_x, loss_u, used = (sums / steps).tolist()
        score = accuracy(model, valid_images, valid_labels)
        print(
            f"epoch {epoch + 1:2d}  labeled {loss_x:.4f}  pseudo {loss_u:.4f}  used {used:.2f}  accuracy {score:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
