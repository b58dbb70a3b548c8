"""Learning embeddings of digits with the batch-all triplet loss; Recall@k of an averaged model, query against gallery."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


@dataclass
class Config:
    seed: int = 17
    noise: float = 0.3
    classes_per_batch: int = 8
    images_per_class: int = 8
    batches_per_epoch: int = 25
    epochs: int = 12
    embedding_dim: int = 32
    margin: float = 0.3
    lr: float = 1e-3
    ema_decay: float = 0.95
    cutout: int = 4


class PKSampler:
    """Yields batches of P classes with K images of each."""

    def __init__(self, labels, p, k, length):
        self.p, self.k, self.length = p, k, length
        self.pools = [torch.nonzero(labels == c).flatten() for c in labels.unique()]

    def __len__(self):
        return self.length

    def __iter__(self):
        for _ in range(self.length):
            batch = []
            for c in torch.randperm(len(self.pools))[: self.p].tolist():
                pool = self.pools[c]
                batch += pool[torch.randperm(len(pool))[: self.k]].tolist()
            yield batch


def apply_cutout(image, length):
    height, width = image.shape[-2:]
    cy, cx = int(torch.randint(height, (1,))), int(torch.randint(width, (1,)))
    half = length // 2
    image = image.clone()
    image[..., max(0, cy - half) : cy + half, max(0, cx - half) : cx + half] = 0
    return image


class TrainImages(Dataset):
    def __init__(self, images, labels, cutout):
        self.images, self.labels, self.cutout = images, labels, cutout

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        dy, dx = torch.randint(-1, 2, (2,)).tolist()
        image = torch.roll(self.images[index], (dy, dx), dims=(1, 2))
        return apply_cutout(image, self.cutout), self.labels[index]


class EmbeddingNet(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(),
        )
        self.embedder = nn.Linear(64 * 4 * 4, dim)

    def forward(self, x):
        return F.normalize(self.embedder(self.trunk(x)), dim=1)


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ours, theirs in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ours.dtype.is_floating_point:
                ours.mul_(self.decay).add_(theirs, alpha=1 - self.decay)
            else:
                ours.copy_(theirs)


def valid_triplets(labels):
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool)
    return (same & ~itself).unsqueeze(2) & (~same).unsqueeze(1)


def batch_all_triplet_loss(embeddings, labels, margin):
    pairwise = (2 - 2 * embeddings @ embeddings.t()).clamp_min(1e-6).sqrt()
    anchor_positive = pairwise.unsqueeze(2)
    anchor_negative = pairwise.unsqueeze(1)
    triplets = anchor_positive - anchor_negative + margin
    triplets = F.relu(triplets) * valid_triplets(labels)
    active = (triplets > 1e-12).sum()
    return triplets.sum() / active.clamp_min(1)


@torch.no_grad()
def recall_at(model, query, query_labels, gallery, gallery_labels, ks=(1, 5)):
    similarity = model(query) @ model(gallery).t()
    nearest = similarity.topk(max(ks), dim=1).indices
    hits = gallery_labels[nearest] == query_labels[:, None]
    return [hits[:, :k].any(dim=1).float().mean().item() for k in ks]


def main(cfg):
    torch.manual_seed(cfg.seed)
    raw, labels = draw_digits(1000, seed=cfg.seed, noise=cfg.noise)
    order = torch.randperm(len(labels))
    train_idx, gallery_idx, query_idx = order.split([600, 200, 200])

    images = raw.float() / 255
    images = (images - images[train_idx].mean()) / images[train_idx].std()
    train_labels = labels[train_idx]
    loader = DataLoader(
        TrainImages(images[train_idx], train_labels, cfg.cutout),
        batch_sampler=PKSampler(train_labels, cfg.classes_per_batch, cfg.images_per_class, cfg.batches_per_epoch),
    )

    model = EmbeddingNet(cfg.embedding_dim)
    ema = ModelEma(model, cfg.ema_decay)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)

    for epoch in range(cfg.epochs):
        running = 0.0
        model.train()
        for batch, batch_labels in loader:
            loss = batch_all_triplet_loss(model(batch), batch_labels, cfg.margin)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            ema.update(model)
            running += loss.item()
        r1, r5 = recall_at(ema.module, images[query_idx], labels[query_idx], images[gallery_idx], labels[gallery_idx])
        print(f"epoch {epoch:2d}  loss {running / len(loader):.4f}  R@1 {r1:.3f}  R@5 {r5:.3f}")


if __name__ == "__main__":
    main(Config())
