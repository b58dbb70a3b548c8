"""Digit embeddings with a supervised contrastive loss; every batch holds P digits with K drawings of each."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Sampler

from toydata import Digits

opt = {"P": 8, "K": 8, "batches": 25, "epochs": 8, "lr": 2e-3, "wd": 1e-4, "tau": 0.1, "dim": 32, "seed": 2024}


class PKSampler(Sampler):
    """Yields lists of P * K indices: P labels without repetition, K different samples of each."""

    def __init__(self, targets, P, K, batches, seed):
        self.by_label = [np.flatnonzero(np.asarray(targets) == label) for label in range(10)]
        self.P, self.K, self.batches = P, K, batches
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            labels = self.rng.choice(10, size=self.P, replace=False)
            yield np.concatenate([self.rng.choice(self.by_label[i], self.K, replace=False) for i in labels]).tolist()


class SupConLoss(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, z, labels):
        similarity = z @ z.t() / self.temperature
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        positive = (labels[:, None] == labels[None, :]) & ~itself
        others = similarity.masked_fill(itself, float("-inf"))
        log_prob = similarity - torch.logsumexp(others, dim=1, keepdim=True)
        return -((log_prob * positive).sum(1) / positive.sum(1)).mean()


class Embedder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        blocks, previous = [], 1
        for channels in (16, 32, 64):
            blocks += [
                nn.Conv2d(previous, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            previous = channels
        self.backbone = nn.Sequential(*blocks, nn.Flatten())
        self.project = nn.Linear(64 * 2 * 2, dim)

    def forward(self, x):
        return F.normalize(self.project(self.backbone(x)), dim=1)


def to_tensor(image):
    return (image.float() / 255 - 0.2) / 0.3


def jitter(image):
    """Moves the drawing by up to a pixel and changes its contrast a little."""
    down, right = torch.randint(-1, 2, (2,)).tolist()
    image = torch.roll(to_tensor(image), shifts=(down, right), dims=(-2, -1))
    return image * (0.9 + 0.2 * torch.rand(()))


@torch.no_grad()
def embed(model, dataset):
    model.eval()
    pairs = [(model(x), y) for x, y in DataLoader(dataset, batch_size=200)]
    return torch.cat([z for z, _ in pairs]), torch.cat([y for _, y in pairs])


def retrieval(model, gallery_set, query_set):
    gallery, gallery_labels = embed(model, gallery_set)
    query, query_labels = embed(model, query_set)
    nearest = (query @ gallery.t()).argmax(dim=1)
    recall = (gallery_labels[nearest] == query_labels).float().mean().item()
    first, second = torch.triu_indices(len(query), len(query), offset=1)
    same = query_labels[first] == query_labels[second]
    auc = roc_auc_score(same.numpy(), (query[first] * query[second]).sum(1).numpy())
    return recall, auc


def main():
    torch.manual_seed(opt["seed"])
    train_set = Digits(train=True, transform=jitter)
    gallery_set = Digits(train=True, transform=to_tensor)
    query_set = Digits(train=False, transform=to_tensor)
    sampler = PKSampler(train_set.targets, opt["P"], opt["K"], opt["batches"], opt["seed"])
    loader = DataLoader(train_set, batch_sampler=sampler)

    model = Embedder(opt["dim"])
    criterion = SupConLoss(opt["tau"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=opt["lr"], weight_decay=opt["wd"])
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[5, 7], gamma=0.3)
    for epoch in range(1, opt["epochs"] + 1):
        model.train()
        history = []
        for images, labels in loader:
            loss = criterion(model(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            history.append(loss.detach())
        scheduler.step()
        recall, auc = retrieval(model, gallery_set, query_set)
        mean = torch.stack(history).mean().item()
        print(f"[{epoch}/{opt['epochs']}] loss {mean:.3f} | recall@1 {recall:.3f} | pairs AUC {auc:.3f}")


if __name__ == "__main__":
    main()
