"""Image retrieval with a triplet loss, as a LightningModule and a LightningDataModule."""
import tempfile

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Sampler

from toydata import Digits


def to_input(image):
    return (image.float() / 255.0 - 0.15) / 0.29


class PKBatchSampler(Sampler):
    """Batches of P classes with K images each."""

    def __init__(self, targets, p=8, k=4, num_batches=25, seed=0):
        self.p, self.k, self.num_batches, self.seed = p, k, num_batches, seed
        targets = np.asarray(targets)
        self.by_class = {int(c): np.flatnonzero(targets == c) for c in np.unique(targets)}
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return self.num_batches

    def __iter__(self):
        rng = self.rng
        for _ in range(self.num_batches):
            classes = rng.choice(list(self.by_class), self.p, replace=False)
            yield [int(i) for c in classes for i in rng.choice(self.by_class[int(c)], self.k, replace=False)]


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, p=8, k=4):
        super().__init__()
        self.p, self.k = p, k

    def setup(self, stage=None):
        self.train_set = Digits(train=True, transform=to_input)
        self.val_set = Digits(train=False, transform=to_input)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_sampler=PKBatchSampler(self.train_set.targets, self.p, self.k))

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


class TripletLoss(nn.Module):
    """Mean over the active triplets of a batch."""

    def __init__(self, margin=0.3):
        super().__init__()
        self.margin = margin

    def forward(self, embeddings, labels):
        dist = 1.0 - embeddings @ embeddings.t()
        same = labels[:, None] == labels[None, :]
        eye = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive, negative = same & ~eye, ~same
        triplets = positive[:, :, None] & negative[:, None, :]
        losses = F.relu(dist[:, :, None] - dist[:, None, :] + self.margin)
        losses = losses[triplets]
        active = (losses > 0).sum().clamp(min=1)
        return losses.sum() / active


class Embedder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Linear(32 * 4 * 4, dim)

    def forward(self, x):
        return F.normalize(self.head(self.body(x)), dim=1)


class LitRetrieval(L.LightningModule):
    def __init__(self, dim=32, margin=0.3, lr=2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.embedder = Embedder(dim)
        self.loss = TripletLoss(margin)
        self.val_outputs = []

    def forward(self, x):
        return self.embedder(x)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = self.loss(self(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.val_outputs.append((self(images), labels))

    def on_validation_epoch_end(self):
        embeddings = torch.cat([e for e, _ in self.val_outputs])
        labels = torch.cat([t for _, t in self.val_outputs])
        self.val_outputs.clear()
        similarity = embeddings @ embeddings.t()
        similarity.fill_diagonal_(-1e9)
        nearest = similarity.argmax(dim=1)
        recall = (labels[nearest] == labels).float().mean()
        self.log("val_r1", recall)
        print(f"epoch {self.current_epoch}: recall@1 {recall:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-4)
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.hparams.lr, total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(7)
    data = DigitsDataModule()
    model = LitRetrieval()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_r1", mode="max", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=10, accelerator="cpu", devices=1, logger=False, callbacks=[checkpoint],
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder,
        )
        trainer.fit(model, datamodule=data)
        state = torch.load(checkpoint.best_model_path, weights_only=False)["state_dict"]
        model.load_state_dict(state)
        trainer.validate(model, datamodule=data)


if __name__ == "__main__":
    main()
