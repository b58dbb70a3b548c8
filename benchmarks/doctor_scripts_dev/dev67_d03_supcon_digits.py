"""Supervised contrastive embeddings of digits on noisy canvases.

Class-balanced batches, two views per image, averaged weights for evaluation; judged by
k-NN accuracy (gallery: training images) and by Recall@1 / mAP within the test images.
"""
import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import GroupShuffleSplit
from torch.utils.data import DataLoader, Dataset, Sampler


def parse_option():
    parser = argparse.ArgumentParser("arguments for training")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batches_per_epoch", type=int, default=8)
    parser.add_argument("--classes_per_batch", type=int, default=8)
    parser.add_argument("--samples_per_class", type=int, default=6)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--temp", type=float, default=0.1)
    parser.add_argument("--ema_decay", type=float, default=0.98)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def load_canvases(copies, rng, size=16):
    """Draw every digit `copies` times at a random place of a noisy canvas."""
    digits = load_digits()
    labels = np.repeat(digits.target, copies)
    source = np.repeat(np.arange(len(digits.target)), copies)
    images = rng.normal(0, 0.1, (len(labels), size, size))
    for image, src in zip(images, source):
        top, left = rng.integers(2, size - 9, 2)
        image[top:top + 8, left:left + 8] += digits.images[src] / 16.0
    return images.astype(np.float32), labels, source


class TwoCropTransform:
    def __init__(self, transform):
        self.transform = transform

    def __call__(self, x):
        return self.transform(x), self.transform(x)


def random_view(x):
    dy, dx = random.randint(0, 2), random.randint(0, 2)
    x = F.pad(x, (1, 1, 1, 1))[:, dy:dy + 16, dx:dx + 16]
    return x * random.uniform(0.8, 1.2) + 0.1 * torch.randn_like(x)


class CanvasDataset(Dataset):
    def __init__(self, images, labels, mean, std, transform=None):
        self.images = torch.from_numpy((images - mean) / std).unsqueeze(1)
        self.labels = torch.from_numpy(labels)
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        return image if self.transform is None else self.transform(image), self.labels[i]


class ClassBalancedBatchSampler(Sampler):
    """Yields P classes x K images per batch; call set_epoch() before each epoch."""
    def __init__(self, labels, p, k, num_batches, seed=0):
        self.index = [np.flatnonzero(labels == c) for c in np.unique(labels)]
        self.p, self.k, self.num_batches = p, k, num_batches
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.num_batches

    def __iter__(self):
        rng = np.random.default_rng((self.seed, self.epoch))
        for _ in range(self.num_batches):
            classes = rng.choice(len(self.index), self.p, replace=False)
            yield np.concatenate([rng.choice(self.index[c], self.k, replace=False) for c in classes]).tolist()


class SupConNet(nn.Module):
    """Backbone and projection head; the head is used by the loss only."""

    def __init__(self, widths=(16, 32, 64), feat_dim=64):
        super().__init__()
        layers, cin = [], 1
        for cout in widths:
            layers += [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout),
                       nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            cin = cout
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(cin * 4, 128))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, feat_dim))

    def embed(self, x):
        return F.normalize(self.encoder(x), dim=1)

    def forward(self, x):
        return F.normalize(self.head(self.encoder(x)), dim=1)


def supcon_loss(features, labels, temperature):
    self_mask = torch.eye(len(labels), dtype=torch.bool)
    positives = labels.view(-1, 1).eq(labels.view(1, -1)) & ~self_mask
    logits = (features @ features.T / temperature).masked_fill(self_mask, float("-inf"))
    log_prob = logits - logits.logsumexp(dim=1, keepdim=True)
    return -(log_prob.masked_fill(~positives, 0.0).sum(dim=1) / positives.sum(dim=1)).mean()


class ModelEMA:
    def __init__(self, model, decay):
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model):
        for k, v in model.state_dict().items():
            if v.dtype.is_floating_point:
                self.shadow[k].mul_(self.decay).add_(v, alpha=1 - self.decay)
            else:
                self.shadow[k].copy_(v)


@torch.no_grad()
def extract(model, loader):
    model.eval()
    return torch.cat([model.embed(images) for images, _ in loader])


def knn_accuracy(query, query_labels, gallery, gallery_labels, k=5):
    neighbours = (query @ gallery.T).topk(k, dim=1).indices
    votes = gallery_labels[neighbours].mode(dim=1).values
    return (votes == query_labels).float().mean().item()


def retrieval_metrics(embeddings, labels):
    similarity = embeddings @ embeddings.T
    similarity.fill_diagonal_(-float("inf"))
    ranking = similarity.argsort(dim=1, descending=True)[:, :-1]
    hits = (labels[ranking] == labels[:, None]).float()
    precision = hits.cumsum(dim=1) / torch.arange(1, hits.size(1) + 1)
    ap = (precision * hits).sum(dim=1) / hits.sum(dim=1)
    return hits[:, 0].mean().item(), ap.mean().item()


def main():
    opt = parse_option()
    random.seed(opt.seed)
    torch.manual_seed(opt.seed)
    images, labels, source = load_canvases(copies=2, rng=np.random.default_rng(opt.seed))
    splitter = GroupShuffleSplit(n_splits=1, test_size=0.3, random_state=opt.seed)
    train_idx, test_idx = next(splitter.split(images, labels, groups=source))
    mean, std = images[train_idx].mean(), images[train_idx].std()
    train_set = CanvasDataset(images[train_idx], labels[train_idx], mean, std, TwoCropTransform(random_view))
    gallery_set = CanvasDataset(images[train_idx], labels[train_idx], mean, std)
    test_set = CanvasDataset(images[test_idx], labels[test_idx], mean, std)
    sampler = ClassBalancedBatchSampler(labels[train_idx], opt.classes_per_batch, opt.samples_per_class,
                                        opt.batches_per_epoch, opt.seed)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    gallery_loader = DataLoader(gallery_set, batch_size=256, shuffle=False)
    test_loader = DataLoader(test_set, batch_size=256, shuffle=False)

    model, eval_model = SupConNet(), SupConNet()
    ema = ModelEMA(model, opt.ema_decay)
    optimizer = torch.optim.AdamW(model.parameters(), lr=opt.learning_rate, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, opt.epochs * opt.batches_per_epoch)

    for epoch in range(1, opt.epochs + 1):
        sampler.set_epoch(epoch)
        model.train()
        total = 0.0
        for (view1, view2), targets in train_loader:
            features = model(torch.cat([view1, view2], dim=0))
            loss = supcon_loss(features, targets.repeat(2), opt.temp)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            ema.update(model)
            total += loss.item()
        if epoch % 10 == 0:
            eval_model.load_state_dict(ema.shadow)
            test_emb, gallery = extract(eval_model, test_loader), extract(eval_model, gallery_loader)
            acc = knn_accuracy(test_emb, test_set.labels, gallery, gallery_set.labels)
            recall, mean_ap = retrieval_metrics(test_emb, test_set.labels)
            print(f"epoch {epoch:3d}  loss {total / len(train_loader):.4f}  kNN {acc:.4f}  "
                  f"R@1 {recall:.4f}  mAP {mean_ap:.4f}", flush=True)


if __name__ == "__main__":
    main()
