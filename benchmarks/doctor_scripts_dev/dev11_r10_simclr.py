"""SimCLR on digits: NT-Xent over two views, then kNN and a linear probe."""

import argparse
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from toydata import draw_digits


def parse_args():
    parser = argparse.ArgumentParser("SimCLR")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--min-scale", type=float, default=0.7, help="smallest part of the side that a crop keeps")
    parser.add_argument("--proj-dim", type=int, default=32)
    parser.add_argument("--knn-k", type=int, default=10)
    parser.add_argument("--seed", type=int, default=9)
    return parser.parse_args()


class ViewAugmentation:
    """Random shift, crop with resize, brightness, noise."""

    def __init__(self, min_scale):
        self.min_scale = min_scale

    def __call__(self, image):
        size = image.shape[-1]
        side = int(torch.randint(max(2, int(self.min_scale * size)), size + 1, ()))
        top, left = torch.randint(0, size - side + 1, (2,)).tolist()
        image = image[None, :, top : top + side, left : left + side]
        image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)[0]
        image = image * (0.8 + 0.4 * torch.rand(())) + 0.1 * (torch.rand(()) - 0.5)
        image = image.roll(tuple(torch.randint(-3, 4, (2,)).tolist()), (-2, -1))
        return image + 0.05 * torch.randn_like(image)


class TwoViews(Dataset):
    def __init__(self, base, augment):
        self.base, self.augment = base, augment

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, _ = self.base[index]
        return normalize(self.augment(image)), normalize(self.augment(image))


def load_digits(count, seed):
    images, labels = draw_digits(count, seed=seed, noise=0.15)
    return TensorDataset(images.float() / 255, labels)


def normalize(image):
    return (image - 0.2) / 0.3


def conv_block(inside, outside, stride):
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU())


class SimCLR(nn.Module):
    def __init__(self, width=20, proj_dim=32):
        super().__init__()
        self.backbone = nn.Sequential(
            conv_block(1, width, 1), conv_block(width, width, 2), conv_block(width, 2 * width, 1), conv_block(2 * width, 2 * width, 2),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )
        self.feature_dim = 2 * width
        self.projector = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, proj_dim))

    def encode(self, x):
        return self.backbone(x)

    def forward(self, x):
        return F.normalize(self.projector(self.encode(x)), dim=1)


def nt_xent(z1, z2, temperature):
    n = len(z1)
    z = torch.cat([z1, z2])
    similarity = z @ z.t() / temperature
    similarity.fill_diagonal_(float("-inf"))
    positives = (torch.arange(2 * n) + n) % (2 * n)
    return F.cross_entropy(similarity, positives)


@torch.no_grad()
def extract(model, loader):
    model.eval()
    features, targets = [], []
    for images, labels in loader:
        features.append(model.encode(normalize(images)))
        targets.append(labels)
    return torch.cat(features), torch.cat(targets)


def knn_accuracy(bank, bank_targets, queries, targets, k, classes=10):
    similarity = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).t()
    weights, index = similarity.topk(k, dim=1)
    votes = torch.zeros(len(queries), classes).scatter_add_(1, bank_targets[index], (weights / 0.1).exp())
    return (votes.argmax(1) == targets).float().mean().item()


def linear_probe(train_x, train_y, test_x, test_y, steps=300, classes=10):
    mean, std = train_x.mean(0), train_x.std(0) + 1e-6
    train_x, test_x = (train_x - mean) / std, (test_x - mean) / std
    probe = nn.Linear(train_x.shape[1], classes)
    optimizer = torch.optim.Adam(probe.parameters(), lr=0.02, weight_decay=1e-4)
    for _ in range(steps):
        index = torch.randint(len(train_x), (128,))
        loss = F.cross_entropy(probe(train_x[index]), train_y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return (probe(test_x).argmax(1) == test_y).float().mean().item()


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    train_set, test_set = load_digits(1280, seed=50), load_digits(300, seed=51)
    pair_loader = DataLoader(TwoViews(train_set, ViewAugmentation(args.min_scale)), args.batch_size, shuffle=True, drop_last=True)
    bank_loader = DataLoader(train_set, 256)
    test_loader = DataLoader(test_set, 256)

    model = SimCLR(proj_dim=args.proj_dim)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(pair_loader))
    bank, bank_targets = extract(model, bank_loader)
    queries, targets = extract(model, test_loader)
    print(f"untrained: kNN {knn_accuracy(bank, bank_targets, queries, targets, args.knn_k):.4f}")
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for view1, view2 in pair_loader:
            loss = nt_xent(model(view1), model(view2), args.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        bank, bank_targets = extract(model, bank_loader)
        queries, targets = extract(model, test_loader)
        accuracy = knn_accuracy(bank, bank_targets, queries, targets, args.knn_k)
        print(f"epoch {epoch}: loss {total / len(pair_loader):.4f}  kNN {accuracy:.4f}")

    torch.save(model.state_dict(), os.path.join(tempfile.mkdtemp(), "simclr.pt"))
    print(f"linear probe accuracy {linear_probe(bank, bank_targets, queries, targets):.4f}")


if __name__ == "__main__":
    main()
