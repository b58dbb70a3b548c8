"""Deep metric learning on digits: batch-all triplets, P x K batches, Recall@k against the training gallery."""

import dataclasses
import logging

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from toydata import draw_digits

log = logging.getLogger("retrieval")


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    seed: int = 7
    num_gallery: int = 900
    num_val: int = 250
    num_test: int = 250
    classes_per_batch: int = 10
    samples_per_class: int = 4
    widths: tuple = (16, 32, 64)
    embedding_dim: int = 32
    margin: float = 0.3
    learning_rate: float = 1e-3
    iterations: int = 300
    eval_every: int = 60


class ConvBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)


class EmbeddingNet(nn.Module):
    def __init__(self, cfg: ExperimentConfig):
        super().__init__()
        sizes = (1,) + cfg.widths
        self.blocks = nn.ModuleList([ConvBlock(a, b) for a, b in zip(sizes[:-1], sizes[1:])])
        self.project = nn.Linear(cfg.widths[-1] * 2 * 2, cfg.embedding_dim)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.project(x.flatten(1)), dim=1)


def pairwise_distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances of unit vectors."""
    squared = 2.0 - 2.0 * a @ b.t()
    return squared.clamp(min=1e-8).sqrt()


def batch_all_triplet_loss(embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
    distances = pairwise_distances(embeddings, embeddings)
    same = labels[:, None] == labels[None, :]
    not_self = ~torch.eye(len(labels), dtype=torch.bool)
    valid = (same & not_self)[:, :, None] & (~same)[:, None, :]
    d_pos, d_neg = distances[:, :, None], distances[:, None, :]
    violation = F.relu(d_pos - d_neg + margin)[valid]
    active = (violation > 0).sum().clamp(min=1)
    return violation.sum() / active


class BalancedBatches:
    """Draws P classes and K images of each, for ever."""

    def __init__(self, labels: Tensor, cfg: ExperimentConfig, generator: torch.Generator):
        self.by_class = {int(c): torch.nonzero(labels == c).flatten() for c in labels.unique()}
        self.cfg, self.generator = cfg, generator

    def __iter__(self):
        names = torch.tensor(sorted(self.by_class))
        while True:
            order = torch.randperm(len(names), generator=self.generator)[: self.cfg.classes_per_batch]
            picks = []
            for name in names[order].tolist():
                members = self.by_class[name]
                chosen = torch.randperm(len(members), generator=self.generator)[: self.cfg.samples_per_class]
                picks.append(members[chosen])
            yield torch.cat(picks)


def standardize(images: Tensor, mean: float, std: float) -> Tensor:
    return (images.float() / 255 - mean) / std


@torch.no_grad()
def recall_at_k(model: nn.Module, gallery: tuple, queries: tuple, ks=(1, 5)) -> dict:
    model.eval()
    gallery_vectors, query_vectors = model(gallery[0]), model(queries[0])
    nearest = pairwise_distances(query_vectors, gallery_vectors).topk(max(ks), dim=1, largest=False).indices
    hits = gallery[1][nearest] == queries[1][:, None]
    model.train()
    return {k: hits[:, :k].any(dim=1).float().mean().item() for k in ks}


def run(cfg: ExperimentConfig) -> dict:
    torch.manual_seed(cfg.seed)
    generator = torch.Generator().manual_seed(cfg.seed)

    gallery_images, gallery_labels = draw_digits(cfg.num_gallery, seed=20)
    val_images, val_labels = draw_digits(cfg.num_val, seed=21)
    test_images, test_labels = draw_digits(cfg.num_test, seed=22)
    mean = (gallery_images.float() / 255).mean().item()
    std = (gallery_images.float() / 255).std().item()
    gallery = (standardize(gallery_images, mean, std), gallery_labels)
    val = (standardize(val_images, mean, std), val_labels)
    test = (standardize(test_images, mean, std), test_labels)

    model = EmbeddingNet(cfg)
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.learning_rate)
    batches = iter(BalancedBatches(gallery_labels, cfg, generator))

    model.train()
    for iteration in range(1, cfg.iterations + 1):
        index = next(batches)
        embeddings = model(gallery[0][index])
        loss = batch_all_triplet_loss(embeddings, gallery[1][index], cfg.margin)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if iteration % cfg.eval_every == 0:
            recalls = recall_at_k(model, gallery, val)
            log.info("iter %d  loss %.4f  val R@1 %.3f  R@5 %.3f", iteration, loss.item(), recalls[1], recalls[5])

    return recall_at_k(model, gallery, test)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    result = run(ExperimentConfig())
    print("test recall:", {f"R@{k}": round(v, 4) for k, v in result.items()})
