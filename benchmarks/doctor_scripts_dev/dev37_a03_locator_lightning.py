import tempfile

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


def load_records(count, size):
    """Images as OpenCV would give them (height, width, channels; uint8), with a square box and a label."""
    shapes = Shapes(train=True, count=count, size=size)
    records = []
    for image, box, label in zip(shapes.images, shapes.boxes, shapes.targets):
        array = (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        records.append((array, box.numpy(), label))
    return records


class LocatorDataset(Dataset):
    def __init__(self, records, training=False):
        self.records = records
        self.training = training

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        array, box, label = self.records[index]
        image = torch.from_numpy(array).permute(2, 0, 1).float() / 255
        image = (image - 0.5) / 0.17
        x0, y0, x1, y1 = box.tolist()
        center_x, center_y, side = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0
        if self.training and torch.rand(1).item() < 0.5:
            image = image.flip(-1)
            center_x = 1 - center_x
        return image, torch.tensor([center_x, center_y]), torch.tensor(side), label


class LocatorData(L.LightningDataModule):
    def __init__(self, count=1100, size=24, batch_size=32):
        super().__init__()
        self.count, self.size, self.batch_size = count, size, batch_size

    def setup(self, stage=None):
        records = load_records(self.count, self.size)
        order = torch.randperm(len(records), generator=torch.Generator().manual_seed(0)).tolist()
        self.train_set = LocatorDataset([records[i] for i in order[:800]], training=True)
        self.val_set = LocatorDataset([records[i] for i in order[800:950]])
        self.test_set = LocatorDataset([records[i] for i in order[950:]])

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=50)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=50)


def to_boxes(center, side):
    half = side.reshape(-1, 1) / 2
    return torch.cat([center - half, center + half], dim=1)


def paired_iou(a, b):
    top_left = torch.maximum(a[:, :2], b[:, :2])
    bottom_right = torch.minimum(a[:, 2:], b[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    area_a = (a[:, 2:] - a[:, :2]).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).prod(dim=1)
    return inter / (area_a + area_b - inter)


def stage(inp, out):
    return [nn.Conv2d(inp, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]


class ShapeLocator(L.LightningModule):
    def __init__(self, width=12, hidden=64, num_classes=6, lr=2e-3, box_weight=5.0):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = nn.Sequential(
            *stage(3, width),
            *stage(width, 2 * width),
            *stage(2 * width, 4 * width),
            nn.Flatten(),
            nn.Linear(4 * width * 3 * 3, hidden),
            nn.ReLU(),
        )
        self.center_head = nn.Linear(hidden, 2)
        self.side_head = nn.Linear(hidden, 1)
        self.class_head = nn.Linear(hidden, num_classes)

    def forward(self, images):
        features = self.backbone(images)
        center = self.center_head(features).sigmoid()
        side = self.side_head(features).sigmoid().squeeze(1)
        return center, side, self.class_head(features)

    def shared_step(self, batch, prefix):
        images, true_center, true_side, labels = batch
        center, side, logits = self(images)
        center_loss = (center - true_center).abs().mean()
        side_loss = (side - true_side).abs().mean()
        class_loss = F.cross_entropy(logits, labels)
        loss = self.hparams.box_weight * (center_loss + side_loss) + class_loss
        with torch.no_grad():
            iou = paired_iou(to_boxes(center, side), to_boxes(true_center, true_side)).mean()
            acc = (logits.argmax(dim=1) == labels).float().mean()
        metrics = {f"{prefix}_loss": loss, f"{prefix}_iou": iou, f"{prefix}_acc": acc}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def training_step(self, batch, batch_idx):
        return self.shared_step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.shared_step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.shared_step(batch, "test")

    def on_train_epoch_end(self):
        logged = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch}: val loss {logged['val_loss']:.3f}, iou {logged['val_iou']:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-4)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


if __name__ == "__main__":
    L.seed_everything(7)
    checkpoint = ModelCheckpoint(dirpath=tempfile.mkdtemp(), monitor="val_loss", mode="min", save_top_k=1)
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        logger=False,
        callbacks=[checkpoint],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = LocatorData()
    model = ShapeLocator()
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, ckpt_path="best")
