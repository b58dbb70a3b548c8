"""SupCon on cluttered digits with a momentum (EMA) encoder, then kNN and linear-probe evaluation."""
import argparse
import copy
import math
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset


def parse_option():
    parser = argparse.ArgumentParser("argument for training")
    parser.add_argument("--batch_size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=0.1)
    parser.add_argument("--weight_decay", type=float, default=1e-4)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--temp", type=float, default=0.1)
    parser.add_argument("--feat_dim", type=int, default=32)
    parser.add_argument("--ema", type=float, default=0.98)
    parser.add_argument("--knn_k", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def place_on_canvas(images, rng, size=12):
    """Digits from sklearn at a random place of a larger, noisy canvas (so that raw pixels do not suffice)."""
    out = np.zeros((len(images), 1, size, size), dtype=np.float32)
    for k, img in enumerate(images):
        r, c = rng.integers(0, size - 8 + 1, 2)
        out[k, 0, r:r + 8, c:c + 8] = img
    out += rng.normal(0, 1.0, out.shape).astype(np.float32)
    return np.clip(out, 0, 16)


class TwoCropTransform:
    """Two random views of the same image."""

    def __init__(self, max_shift=1, noise=0.1, erase=3):
        self.max_shift, self.noise, self.erase = max_shift, noise, erase

    def augment(self, x):
        dy, dx = torch.randint(-self.max_shift, self.max_shift + 1, (2,)).tolist()
        x = torch.roll(x, (dy, dx), dims=(1, 2))
        x = x * (0.8 + 0.4 * torch.rand(1))
        if torch.rand(1) < 0.5:
            r, c = torch.randint(0, x.shape[-1] - self.erase, (2,)).tolist()
            x = x.clone()
            x[:, r:r + self.erase, c:c + self.erase] = 0.0
        return x + self.noise * torch.randn_like(x)

    def __call__(self, x):
        return [self.augment(x), self.augment(x)]


class DigitDataset(Dataset):
    def __init__(self, images, labels, mean, std, transform=None):
        self.x = (torch.from_numpy(images) - mean) / std
        self.y = torch.from_numpy(labels)
        self.transform = transform

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = self.x[i]
        return (self.transform(x) if self.transform else x), self.y[i]


class SupConNet(nn.Module):
    def __init__(self, feat_dim):
        super().__init__()

        def block(cin, cout, stride):
            return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))

        self.encoder = nn.Sequential(block(1, 16, 1), block(16, 32, 2), block(32, 64, 2), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(256, 64), nn.BatchNorm1d(64), nn.ReLU(inplace=True), nn.Linear(64, feat_dim))

    def forward(self, x):
        return F.normalize(self.head(self.encoder(x)), dim=1)


class SupConLoss(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, features, labels):
        sim = features @ features.T / self.temperature
        self_mask = torch.eye(len(labels), dtype=torch.bool)
        positives = (labels[:, None] == labels[None, :]) & ~self_mask
        sim = sim - sim.max(dim=1, keepdim=True).values.detach()
        log_prob = sim - torch.logsumexp(sim.masked_fill(self_mask, -1e9), dim=1, keepdim=True)
        mean_log_prob_pos = (positives * log_prob).sum(1) / positives.sum(1).clamp(min=1)
        return -mean_log_prob_pos.mean()


@torch.no_grad()
def update_ema(online, target, m):
    for p_t, p_o in zip(target.parameters(), online.parameters()):
        p_t.mul_(m).add_(p_o, alpha=1 - m)
    for b_t, b_o in zip(target.buffers(), online.buffers()):
        b_t.copy_(b_o)


@torch.no_grad()
def extract(model, loader):
    model.eval()
    feats, labels = [], []
    for images, y in loader:
        feats.append(F.normalize(model.encoder(images), dim=1))
        labels.append(y)
    return torch.cat(feats), torch.cat(labels)


def knn_accuracy(gallery, gallery_y, query, query_y, k):
    nearest = (query @ gallery.T).topk(k, dim=1).indices
    votes = F.one_hot(gallery_y[nearest], 10).sum(1)
    return (votes.argmax(1) == query_y).float().mean().item()


def main():
    opt = parse_option()
    torch.set_num_threads(1)
    torch.manual_seed(opt.seed)
    rng = np.random.default_rng(opt.seed)
    images, labels = load_digits(return_X_y=True)
    images = place_on_canvas(images.reshape(-1, 8, 8).astype(np.float32), rng)
    x_train, x_test, y_train, y_test = train_test_split(images, labels, test_size=0.3, stratify=labels, random_state=0)
    mean, std = float(x_train.mean()), float(x_train.std())

    train_set = DigitDataset(x_train, y_train, mean, std, TwoCropTransform())
    memory_set = DigitDataset(x_train, y_train, mean, std)
    test_set = DigitDataset(x_test, y_test, mean, std)
    train_loader = DataLoader(train_set, opt.batch_size, shuffle=True, drop_last=True)
    memory_loader, test_loader = DataLoader(memory_set, 256), DataLoader(test_set, 256)

    model = SupConNet(opt.feat_dim)
    ema_model = copy.deepcopy(model).requires_grad_(False)
    criterion = SupConLoss(opt.temp)
    optimizer = torch.optim.SGD(model.parameters(), lr=opt.learning_rate, momentum=opt.momentum,
                                weight_decay=opt.weight_decay, nesterov=True)
    warmup = len(train_loader)
    total = opt.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: (s + 1) / warmup if s < warmup else 0.5 * (1 + math.cos(math.pi * (s - warmup) / (total - warmup)))
    )

    save_file = os.path.join(tempfile.mkdtemp(prefix="supcon_"), "last.pth")
    for epoch in range(1, opt.epochs + 1):
        model.train()
        losses = []
        for views, y in train_loader:
            features = model(torch.cat(views, dim=0))
            loss = criterion(features, y.repeat(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            update_ema(model, ema_model, opt.ema)
            losses.append(loss.item())
        if epoch % 4 == 0 or epoch == opt.epochs:
            gallery, gallery_y = extract(ema_model, memory_loader)
            query, query_y = extract(ema_model, test_loader)
            acc = knn_accuracy(gallery, gallery_y, query, query_y, opt.knn_k)
            print(f"epoch {epoch} loss {np.mean(losses):.4f} knn {acc:.4f} lr {optimizer.param_groups[0]['lr']:.4f}")
    torch.save({"opt": vars(opt), "model": model.state_dict(), "ema": ema_model.state_dict()}, save_file)

    backbone = SupConNet(opt.feat_dim)
    backbone.load_state_dict(torch.load(save_file)["ema"])
    gallery, gallery_y = extract(backbone, memory_loader)
    query, query_y = extract(backbone, test_loader)
    acc = knn_accuracy(gallery, gallery_y, query, query_y, opt.knn_k)
    probe = LogisticRegression(max_iter=500, C=10.0).fit(gallery.numpy(), gallery_y.numpy())
    print(f"test knn {acc:.4f} probe {probe.score(query.numpy(), query_y.numpy()):.4f}")


if __name__ == "__main__":
    main()
