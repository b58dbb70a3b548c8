"""Multi-label tagging of small pictures with Lightning: color, kind, size and place."""
import tempfile

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes

TAGS = ["red", "blue", "square", "disc", "cross", "large", "left", "top", "edge"]


def to_tensors(shapes):
    x = (torch.stack(shapes.images) - 0.5) / 0.2
    boxes = torch.stack(shapes.boxes)
    words = torch.tensor([[float(tag in name.split()) for tag in TAGS[:5]] for name in shapes.names])
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    large = boxes[:, 2] - boxes[:, 0] > 0.47
    place = torch.stack([large, center[:, 0] < 0.5, center[:, 1] < 0.5, boxes[:, 0] == 0], dim=1)
    return x, torch.cat([words, place.float()], dim=1)


class TagDataModule(pl.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        x, y = to_tensors(Shapes(train=True, count=1000))
        generator = torch.Generator().manual_seed(3)
        # few pictures have the tag "edge": those are shown three times in an epoch
        order = torch.randperm(len(x), generator=generator)
        train_idx, val_idx = order[:800], order[800:]
        rare = train_idx[y[train_idx, TAGS.index("edge")] == 1]
        train_idx = torch.cat([train_idx, rare, rare])
        self.train_set = TensorDataset(x[train_idx], y[train_idx])
        self.val_set = TensorDataset(x[val_idx], y[val_idx])
        self.test_set = TensorDataset(*to_tensors(Shapes(train=False)))

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=120)


class Tagger(pl.LightningModule):
    def __init__(self, lr=3e-3, mixup_alpha=0.2):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(0.2),
        )
        self.heads = nn.ModuleList([nn.Linear(64, 1) for _ in TAGS])

    def forward(self, x):
        h = self.backbone(x)
        return torch.cat([head(h) for head in self.heads], dim=1)

    def decide(self, logits):
        return (torch.sigmoid(logits) > 0.5).float()

    def training_step(self, batch, batch_idx):
        x, y = batch
        lam = float(np.random.beta(self.hparams.mixup_alpha, self.hparams.mixup_alpha))
        perm = torch.randperm(x.size(0))
        x = lam * x + (1 - lam) * x[perm]
        y = lam * y + (1 - lam) * y[perm]
        loss = F.binary_cross_entropy_with_logits(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.counts = torch.zeros(3, len(TAGS))

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", F.binary_cross_entropy_with_logits(logits, y))
        self.counts += count_tags(self.decide(logits), y)

    def on_validation_epoch_end(self):
        f1 = f1_per_tag(self.counts).mean()
        self.log("val_f1", f1)
        print(f"epoch {self.current_epoch}: val_f1 {f1:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def count_tags(predicted, y):
    tp = (predicted * y).sum(0)
    return torch.stack([tp, predicted.sum(0) - tp, y.sum(0) - tp])


def f1_per_tag(counts):
    tp, fp, fn = counts
    return 2 * tp / (2 * tp + fp + fn).clamp(min=1)


def main():
    pl.seed_everything(11)
    folder = tempfile.mkdtemp()
    data = TagDataModule()
    keeper = ModelCheckpoint(dirpath=folder, monitor="val_f1", mode="max", save_top_k=1)
    trainer = pl.Trainer(
        max_epochs=14, accelerator="cpu", devices=1, callbacks=[keeper], logger=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )
    trainer.fit(Tagger(), datamodule=data)

    best = Tagger()
    best.load_state_dict(torch.load(keeper.best_model_path, weights_only=False)["state_dict"])
    best.eval()
    counts = torch.zeros(3, len(TAGS))
    with torch.no_grad():
        for x, y in data.test_dataloader():
            counts += count_tags(best.decide(best(x)), y)
    f1 = f1_per_tag(counts)
    print("test f1", round(f1.mean().item(), 3), dict(zip(TAGS, [round(v, 3) for v in f1.tolist()])))


if __name__ == "__main__":
    main()
