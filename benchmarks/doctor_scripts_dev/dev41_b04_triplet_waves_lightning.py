"""Metric learning: embeddings of one-dimensional signals, batch-hard triplets, PyTorch Lightning."""
import lightning as L
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

import toydata


class WaveDataset(Dataset):
    def __init__(self, signals, labels, augment=False, mask_prob=0.1, noise=0.1):
        mean, std = signals.mean(dim=-1, keepdim=True), signals.std(dim=-1, keepdim=True)
        self.signals = (signals - mean) / std
        self.labels = labels
        self.augment, self.mask_prob, self.noise = augment, mask_prob, noise

    def __len__(self):
        return len(self.labels)

    def _augment(self, x):
        x = x * (0.8 + 0.4 * torch.rand(1))
        keep = torch.rand_like(x) > self.mask_prob
        x = x * keep
        return x + self.noise * torch.randn_like(x)

    def __getitem__(self, index):
        x = self.signals[index]
        if self.augment:
            x = self._augment(x)
        return x, self.labels[index]


class PKSampler(Sampler):
    """P classes with K samples each in every batch."""

    def __init__(self, labels, p, k, num_batches):
        labels = labels.numpy()
        self.groups = [np.flatnonzero(labels == c) for c in np.unique(labels)]
        self.p, self.k, self.num_batches = p, k, num_batches

    def __len__(self):
        return self.num_batches

    def __iter__(self):
        for _ in range(self.num_batches):
            batch = []
            for c in np.random.permutation(len(self.groups))[: self.p]:
                batch.extend(np.random.choice(self.groups[c], self.k, replace=False).tolist())
            yield batch


def pairwise_distances(embeddings):
    dot = embeddings @ embeddings.t()
    norms = dot.diagonal()
    squared = (norms[:, None] - 2 * dot + norms[None, :]).clamp(min=0)
    return (squared + 1e-12).sqrt()


def batch_hard_triplet_loss(embeddings, labels, margin):
    same = labels[:, None] == labels[None, :]
    distances = pairwise_distances(embeddings)
    hardest_positive = (distances * same).max(dim=1).values
    hardest_negative = distances.masked_fill(same, float("inf")).min(dim=1).values
    return F.relu(hardest_positive - hardest_negative + margin).mean()


class Encoder(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv1d(1, 32, kernel_size=9, stride=2, padding=4, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Conv1d(32, 64, kernel_size=5, stride=2, padding=2, bias=False),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Conv1d(64, 64, kernel_size=5, stride=2, padding=2, bias=False),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
        )
        self.neck = nn.Sequential(nn.Linear(64, dim, bias=False), nn.BatchNorm1d(dim, affine=False))

    def forward(self, x):
        return F.normalize(self.neck(self.backbone(x)), dim=1)


class TripletModel(L.LightningModule):
    def __init__(self, max_lr=3e-3, margin=0.5, weight_decay=1e-4):
        super().__init__()
        self.encoder = Encoder()
        self.max_lr, self.margin, self.weight_decay = max_lr, margin, weight_decay

    def forward(self, x):
        return self.encoder(x)

    def training_step(self, batch, batch_idx):
        signals, labels = batch
        loss = batch_hard_triplet_loss(self(signals), labels, self.margin)
        self.log("train_loss", loss)
        return loss

    def on_validation_epoch_start(self):
        self.seen = []

    def validation_step(self, batch, batch_idx):
        signals, labels = batch
        self.seen.append((self(signals), labels))

    def on_validation_epoch_end(self):
        embeddings = torch.cat([e for e, _ in self.seen])
        labels = torch.cat([y for _, y in self.seen])
        distances = pairwise_distances(embeddings)
        distances.fill_diagonal_(float("inf"))
        recall = (labels[distances.argmin(dim=1)] == labels).float().mean()
        self.log("val_recall_at_1", recall)
        print(f"epoch {self.current_epoch}: recall@1 {recall.item():.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.max_lr, weight_decay=self.weight_decay)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.max_lr, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(7)
    signals, labels = toydata.waves(count=840, length=64, seed=0)
    train_set = WaveDataset(signals[:600], labels[:600], augment=True)
    val_set = WaveDataset(signals[600:], labels[600:])
    sampler = PKSampler(train_set.labels, p=4, k=8, num_batches=20)
    train_loader = DataLoader(train_set, batch_sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=60)

    model = TripletModel()
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, train_loader, val_loader)
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
