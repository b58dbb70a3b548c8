"""What is it, and where? A LightningModule with one backbone and two heads."""

import warnings

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from toydata import NAMES, Shapes

warnings.filterwarnings("ignore", ".*does not have many workers.*")


class LocatedShapes(Dataset):
    def __init__(self, train: bool, size: int):
        self.shapes = Shapes(train=train, size=size)

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, i):
        image, label = self.shapes[i]
        return (image - 0.5) / 0.25, label, self.shapes.boxes[i]


class ShapesDataModule(L.LightningDataModule):
    def __init__(self, size: int = 24, batch_size: int = 32, val_fraction: float = 0.2):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        full = LocatedShapes(train=True, size=self.hparams.size)
        order = torch.randperm(len(full), generator=torch.Generator().manual_seed(3)).tolist()
        n_val = int(len(full) * self.hparams.val_fraction)
        self.val_set = Subset(full, order[:n_val])
        self.train_set = Subset(full, order[n_val:])
        self.test_set = LocatedShapes(train=False, size=self.hparams.size)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.hparams.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=self.hparams.batch_size)


def mirror(images, boxes, p=0.5):
    """Flip a random part of the batch from left to right."""
    chosen = torch.rand(len(images), device=images.device) < p
    images = torch.where(chosen[:, None, None, None], images.flip(-1), images)
    left, top, right, bottom = boxes.unbind(1)
    mirrored = torch.stack([1 - right, top, 1 - left, bottom], dim=1)
    boxes = torch.where(chosen[:, None], mirrored, boxes)
    return images, boxes


def paired_iou(a, b):
    lt = torch.maximum(a[:, :2], b[:, :2])
    rb = torch.minimum(a[:, 2:], b[:, 2:])
    overlap = (rb - lt).clamp(min=0).prod(1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(1)
    return overlap / (area_a + area_b - overlap).clamp(min=1e-6)


class WhatAndWhere(L.LightningModule):
    def __init__(self, num_classes: int = len(NAMES), max_lr: float = 4e-3, box_weight: float = 5.0):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = nn.Sequential(
            self._block(3, 16),
            self._block(16, 32),
            self._block(32, 48),
            nn.Flatten(),
            nn.Linear(48 * 3 * 3, 96),
            nn.ReLU(),
        )
        self.cls_head = nn.Linear(96, num_classes)
        self.box_head = nn.Sequential(nn.Linear(96, 4), nn.Sigmoid())

    @staticmethod
    def _block(cin, cout):
        return nn.Sequential(
            nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2)
        )

    def forward(self, x):
        z = self.backbone(x)
        return self.cls_head(z), self.box_head(z)

    def _losses(self, logits, pred_boxes, labels, boxes):
        cls_loss = F.cross_entropy(logits, labels)
        box_loss = F.smooth_l1_loss(pred_boxes, boxes, beta=0.1)
        return cls_loss + self.hparams.box_weight * box_loss

    def training_step(self, batch, batch_idx):
        images, labels, boxes = batch
        images, boxes = mirror(images, boxes)
        logits, pred_boxes = self(images)
        loss = self._losses(logits, pred_boxes, labels, boxes)
        self.log("train_loss", loss)
        return loss

    def _shared_eval(self, batch, prefix):
        images, labels, boxes = batch
        logits, pred_boxes = self(images)
        metrics = {
            f"{prefix}_loss": self._losses(logits, pred_boxes, labels, boxes),
            f"{prefix}_acc": (logits.argmax(1) == labels).float().mean(),
            f"{prefix}_iou": paired_iou(pred_boxes, boxes).mean(),
        }
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(images))

    def validation_step(self, batch, batch_idx):
        self._shared_eval(batch, "val")

    def test_step(self, batch, batch_idx):
        self._shared_eval(batch, "test")

    def on_validation_epoch_end(self):
        m = self.trainer.callback_metrics
        if not self.trainer.sanity_checking and "val_acc" in m:
            print(f"epoch {self.current_epoch}: val_acc {m['val_acc']:.3f}  val_iou {m['val_iou']:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.max_lr / 10, weight_decay=0.01)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.max_lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def cli_main():
    L.seed_everything(1234)
    data = ShapesDataModule()
    model = WhatAndWhere()
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data)


if __name__ == "__main__":
    cli_main()
