"""Metric learning: an embedding in which readings of one device lie together, also for devices never trained on."""

import random

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

DEVICES, READINGS, TRAIN_DEVICES = 80, 30, 60


def make_readings(seed=0):
    """What tells devices apart (six numbers) is mixed with the circumstances of each reading (six others)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(DEVICES).repeat_interleave(READINGS)
    identity = torch.randn(DEVICES, 6, generator=generator)[labels]
    identity = identity + 0.12 * torch.randn(identity.shape, generator=generator)
    circumstances = 1.5 * torch.randn(len(labels), 6, generator=generator)
    mixing = torch.randn(12, 48, generator=generator) / 12**0.5
    readings = torch.tanh(0.7 * torch.cat([identity, circumstances], dim=1) @ mixing)
    return readings + 0.01 * torch.randn(readings.shape, generator=generator), labels


class Triplets(Dataset):
    def __init__(self, readings, labels):
        self.readings, self.labels = readings, labels.tolist()
        self.members = {}
        for index, label in enumerate(self.labels):
            self.members.setdefault(label, []).append(index)
        self.devices = list(self.members)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        label = self.labels[index]
        positive = index
        while positive == index:
            positive = random.choice(self.members[label])
        other = label
        while other == label:
            other = random.choice(self.devices)
        negative = random.choice(self.members[other])
        return self.readings[index], self.readings[positive], self.readings[negative]


class DeviceData(L.LightningDataModule):
    def __init__(self, batch_size=60):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        readings, labels = make_readings()
        train = labels < TRAIN_DEVICES
        valid = labels >= TRAIN_DEVICES
        mean, std = readings[train].mean(dim=0), readings[train].std(dim=0)
        readings = (readings - mean) / std
        self.train_set = Triplets(readings[train], labels[train])
        self.valid_set = TensorDataset(readings[valid], labels[valid])

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.valid_set, batch_size=200)


class Embedder(L.LightningModule):
    def __init__(self, inputs=48, hidden=128, dimensions=32, margin=0.3, lr=3e-4):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, dimensions),
        )
        for layer in self.net:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.embeddings, self.labels, self.losses = [], [], []

    def forward(self, readings):
        return F.normalize(self.net(readings), dim=-1)

    @staticmethod
    def distance(a, b):
        return 1 - F.cosine_similarity(a, b, dim=-1)

    def training_step(self, batch, batch_idx):
        anchor, positive, negative = (self(part) for part in batch)
        near, far = self.distance(anchor, positive), self.distance(anchor, negative)
        loss = F.relu(near - far + self.hparams.margin).mean()
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch, batch_idx):
        readings, labels = batch
        self.embeddings.append(self(readings).float())
        self.labels.append(labels)

    def on_validation_epoch_end(self):
        embeddings, labels = torch.cat(self.embeddings), torch.cat(self.labels)
        self.embeddings.clear()
        self.labels.clear()
        similarity = embeddings @ embeddings.T
        similarity.fill_diagonal_(-2.0)
        nearest = similarity.argmax(dim=1)
        recall = (labels[nearest] == labels).float().mean().item()
        train_loss = sum(self.losses) / max(1, len(self.losses))
        self.losses.clear()
        self.log("recall_at_1", recall)
        print(f"epoch {self.current_epoch + 1:2d}  triplet loss {train_loss:.4f}  recall@1 on new devices {recall:.3f}")

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-3)


def main():
    torch.set_num_threads(1)
    random.seed(0)
    L.seed_everything(0)
    trainer = L.Trainer(
        max_epochs=60,
        accelerator="cpu",
        devices=1,
        precision="32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Embedder(), datamodule=DeviceData())


if __name__ == "__main__":
    main()
