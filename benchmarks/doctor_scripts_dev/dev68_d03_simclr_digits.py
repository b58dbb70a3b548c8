"""SimCLR pretraining on the 8x8 digits, then a linear probe with few labels on the frozen encoder."""
import argparse
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def get_args():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=50)
    p.add_argument("--warmup-epochs", type=int, default=5)
    p.add_argument("--batch-size", type=int, default=128)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--weight-decay", type=float, default=1e-2)
    p.add_argument("--temperature", type=float, default=0.2)
    p.add_argument("--labels-per-class", type=int, default=10)
    p.add_argument("--probe-steps", type=int, default=300)
    p.add_argument("--seed", type=int, default=7)
    return p.parse_args()


class Encoder(nn.Module):
    def __init__(self, dim=128):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, dim, 3, stride=2, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(dim)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        return x.mean(dim=(2, 3))


class SimCLR(nn.Module):
    def __init__(self, dim=128, proj_dim=64):
        super().__init__()
        self.encoder = Encoder(dim)
        self.projector = nn.Sequential(
            nn.Linear(dim, dim, bias=False),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
            nn.Linear(dim, proj_dim),
        )

    def forward(self, x):
        return self.projector(self.encoder(x))


def augment(x):
    """Random affine map, contrast, noise and a random erased square, another one for every image."""
    n = x.size(0)
    angle = (torch.rand(n) * 2 - 1) * math.radians(20)
    sx, sy = (torch.rand(2, n) * 0.4 + 0.8)
    shear = (torch.rand(n) * 2 - 1) * 0.2
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = sx * angle.cos(), -sy * angle.sin() + shear
    theta[:, 1, 0], theta[:, 1, 1] = sx * angle.sin(), sy * angle.cos()
    theta[:, :, 2] = (torch.rand(n, 2) * 2 - 1) * 0.2
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = x * (torch.rand(n, 1, 1, 1) * 0.6 + 0.7)
    x = x + 0.15 * torch.randn_like(x)
    corner = torch.randint(0, 7, (n, 2))
    pos = torch.arange(8)
    rows = (pos >= corner[:, :1]) & (pos < corner[:, :1] + 2)
    cols = (pos >= corner[:, 1:]) & (pos < corner[:, 1:] + 2)
    return x.masked_fill((rows[:, None, :, None] & cols[:, None, None, :]), 0.0)


def nt_xent(z1, z2, temperature):
    n = z1.size(0)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    sim = z @ z.t() / temperature
    sim = sim.masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))
    targets = (torch.arange(2 * n) + n) % (2 * n)
    return F.cross_entropy(sim, targets)


def pretrain(x, args):
    model = SimCLR()
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([
        {"params": decay, "weight_decay": args.weight_decay},
        {"params": no_decay, "weight_decay": 0.0},
    ], lr=args.lr)
    steps_per_epoch = len(x) // args.batch_size
    warmup, total = args.warmup_epochs * steps_per_epoch, args.epochs * steps_per_epoch

    def lr_lambda(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda)
    model.train()
    for epoch in range(args.epochs):
        running = 0.0
        perm = torch.randperm(len(x))
        for i in range(steps_per_epoch):
            batch = x[perm[i * args.batch_size:(i + 1) * args.batch_size]]
            loss = nt_xent(model(augment(batch)), model(augment(batch)), args.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item()
        if (epoch + 1) % 5 == 0:
            print(f"pretrain epoch {epoch + 1}: loss {running / steps_per_epoch:.4f}")
    return {"epoch": args.epochs, "state_dict": model.state_dict()}


def load_backbone(checkpoint):
    encoder = Encoder()
    prefix = "encoder."
    state = {k[len(prefix):]: v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    encoder.load_state_dict(state, strict=False)
    for param in encoder.parameters():
        param.requires_grad = False
    return encoder.eval()


def accuracy(classifier, feats, labels):
    with torch.no_grad():
        return (classifier(feats).argmax(1) == labels).float().mean().item()


def linear_probe(feats, labels, weight_decay, steps):
    classifier = nn.Linear(feats.size(1), 10)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=1e-2, weight_decay=weight_decay)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(classifier(feats), labels)
        loss.backward()
        optimizer.step()
    return classifier


def main():
    args = get_args()
    torch.manual_seed(args.seed)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
    target = digits.target
    labels = torch.tensor(target)
    train_idx, rest = train_test_split(np.arange(len(target)), test_size=600, stratify=target, random_state=0)
    val_idx, test_idx = train_test_split(rest, test_size=400, stratify=target[rest], random_state=0)
    mean, std = images[train_idx].mean(), images[train_idx].std()
    images = (images - mean) / std

    # the probe sees only a few labels of the training part
    labelled = np.concatenate([train_idx[target[train_idx] == c][:args.labels_per_class] for c in range(10)])

    checkpoint = pretrain(images[train_idx], args)
    encoder = load_backbone(checkpoint)
    with torch.no_grad():
        feats = encoder(images)
    mu, sigma = feats[labelled].mean(0), feats[labelled].std(0) + 1e-6
    feats = (feats - mu) / sigma

    best_acc, best_probe = -1.0, None
    for weight_decay in (0.0, 0.1, 1.0):
        probe = linear_probe(feats[labelled], labels[labelled], weight_decay, args.probe_steps)
        val_acc = accuracy(probe, feats[val_idx], labels[val_idx])
        print(f"probe weight decay {weight_decay}: val acc {val_acc:.4f}")
        if val_acc > best_acc:
            best_acc, best_probe = val_acc, probe
    test_acc = accuracy(best_probe, feats[test_idx], labels[test_idx])
    print(f"linear probe with {len(labelled)} labels: test acc {test_acc:.4f}")


if __name__ == "__main__":
    main()
