"""Embeddings of signals learned without labels, judged by a linear probe (Lightning)."""

import logging
import warnings

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import toydata

warnings.filterwarnings("ignore", ".*does not have many workers.*")
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


class WavesDataModule(L.LightningDataModule):
    def __init__(self, batch_size=100):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_signals, self.train_labels = toydata.waves(800, seed=0)
        self.test_signals, self.test_labels = toydata.waves(300, seed=1)

    def train_dataloader(self):
        return DataLoader(TensorDataset(self.train_signals), batch_size=self.batch_size, shuffle=True, drop_last=True)


def augment(signals):
    """Another start, another volume, other noise for each signal."""
    n, _, length = signals.shape
    start = torch.randint(0, length, (n, 1))
    moved = signals.squeeze(1).gather(1, (torch.arange(length) + start) % length).unsqueeze(1)
    volume = torch.empty(n, 1, 1).uniform_(0.7, 1.3)
    return volume * moved + 0.1 * torch.randn_like(moved)


def view_loss(z_a, z_b):
    n = len(z_a)
    z = F.normalize(torch.cat([z_a, z_b]), dim=1)
    similarity = z @ z.t() / 0.2
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool), -1e9)
    partner = torch.arange(2 * n).roll(n)
    return F.cross_entropy(similarity, partner)


class SimCLR(L.LightningModule):
    def __init__(self, dim=32, lr=2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(
            nn.Conv1d(1, 16, 7, stride=2, padding=3), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Conv1d(16, 32, 5, stride=2, padding=2), nn.BatchNorm1d(32), nn.ReLU(),
            nn.Conv1d(32, dim, 5, padding=4, dilation=2), nn.BatchNorm1d(dim), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        )
        self.projector = nn.Sequential(nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, 32))
        self.losses = []

    def forward(self, signals):
        return self.encoder(signals)

    def training_step(self, batch, batch_idx):
        (signals,) = batch
        z_a = self.projector(self(augment(signals)))
        z_b = self.projector(self(augment(signals)))
        loss = view_loss(z_a, z_b)
        self.losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self):
        if self.current_epoch % 5 == 4:
            print(f"epoch {self.current_epoch + 1}: loss {torch.stack(self.losses).mean().item():.4f}")
        self.losses.clear()

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr, weight_decay=1e-6)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, T_max=self.trainer.max_epochs, eta_min=self.hparams.lr / 10
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


@torch.no_grad()
def embed(model, signals):
    model.eval()
    return torch.cat([model(part) for part in signals.split(100)]).numpy()


def probe(model, data):
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(embed(model, data.train_signals), data.train_labels.numpy())
    return classifier.score(embed(model, data.test_signals), data.test_labels.numpy())


def same_and_different(model, data):
    vectors = embed(model, data.test_signals)
    vectors = vectors - vectors.mean(axis=0)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = data.test_labels.numpy()
    similarity, same = vectors @ vectors.T, labels[:, None] == labels[None, :]
    other = ~np.eye(len(labels), dtype=bool)
    return similarity[same & other].mean(), similarity[~same].mean()


def main():
    L.seed_everything(11)
    data = WavesDataModule()
    data.setup()
    model = SimCLR()
    print(f"linear probe before training: {probe(model, data):.3f}")
    trainer = L.Trainer(
        max_epochs=25, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )
    model.train()
    trainer.fit(model, datamodule=data)
    print(f"linear probe after training: {probe(model, data):.3f}")
    same, different = same_and_different(model, data)
    print(f"mean cosine of test signals of one kind {same:.3f}, of two kinds {different:.3f}")


if __name__ == "__main__":
    main()
