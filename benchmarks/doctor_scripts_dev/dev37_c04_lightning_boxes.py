import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, random_split

from toydata import NAMES, Shapes


def pairwise_iou(a, b):
    """Intersection over union of the n-th box of a and the n-th box of b, as (x0, y0, x1, y1)."""
    top_left = torch.maximum(a[:, :2], b[:, :2])
    bottom_right = torch.minimum(a[:, 2:], b[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1)
    return inter / (area_a + area_b - inter + 1e-6)


class LocalizationSet(Dataset):
    def __init__(self, train, count):
        self.source = Shapes(train=train, count=count, size=24)

    def __len__(self):
        return len(self.source)

    def __getitem__(self, idx):
        image = (self.source.images[idx] - 0.5) / 0.18
        return image, self.source.boxes[idx], self.source.targets[idx]


class ShapesDataModule(L.LightningDataModule):
    def __init__(self, batch_size=50):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        full = LocalizationSet(train=True, count=1000)
        self.train_set, self.val_set = random_split(full, [850, 150], generator=torch.Generator().manual_seed(3))
        self.test_set = LocalizationSet(train=False, count=200)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=150)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=200)


class Localizer(L.LightningModule):
    def __init__(self, lr=2e-3, box_weight=5.0):
        super().__init__()
        self.save_hyperparameters()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 6 * 6, 96), nn.ReLU(),
        )
        self.box_head = nn.Linear(96, 4)
        self.class_head = nn.Linear(96, len(NAMES))

    def forward(self, images):
        features = self.features(images)
        return self.box_head(features), self.class_head(features)

    def objective(self, pred_boxes, logits, boxes, labels):
        box_loss = F.smooth_l1_loss(pred_boxes, boxes, beta=0.1)
        return self.hparams.box_weight * box_loss + F.cross_entropy(logits, labels)

    def training_step(self, batch, batch_idx):
        images, boxes, labels = batch
        pred_boxes, logits = self(images)
        loss = self.objective(pred_boxes, logits, boxes, labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def evaluation(self, batch, stage):
        images, boxes, labels = batch
        pred_boxes, logits = self(images)
        values = {
            f"{stage}_loss": self.objective(pred_boxes, logits, boxes, labels),
            f"{stage}_iou": pairwise_iou(pred_boxes, boxes).mean(),
            f"{stage}_acc": (logits.argmax(dim=1) == labels).float().mean(),
        }
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(images))

    def validation_step(self, batch, batch_idx):
        self.evaluation(batch, "val")

    def test_step(self, batch, batch_idx):
        self.evaluation(batch, "test")

    def on_validation_epoch_end(self):
        metrics = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch}: IoU {metrics['val_iou']:.3f}, accuracy {metrics['val_acc']:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def cli_main():
    L.seed_everything(7)
    data = ShapesDataModule()
    model = Localizer()
    trainer = L.Trainer(
        max_epochs=15,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data)


if __name__ == "__main__":
    cli_main()
