"""Where is the shape, and how many pixels does it cover? Two regressions from one picture, with Lightning."""

import tempfile

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

SIDE = 24


class MeasureDataset(Dataset):
    """Image, center of the shape (0 to 1, horizontal and vertical), covered pixels."""

    def __init__(self, shapes, indices, flip=False):
        self.shapes, self.indices, self.flip = shapes, list(indices), flip

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, k):
        i = self.indices[k]
        image = self.shapes.images[i]
        left, top, right, bottom = self.shapes.boxes[i].tolist()
        across, down = (left + right) / 2, (top + bottom) / 2
        if self.flip and torch.rand(()).item() < 0.5:
            image = torch.flip(image, dims=[-1])
            across = 1.0 - across
        area = float((self.shapes.masks[i] > 0).sum())
        return (image - 0.5) / 0.2, torch.tensor([across, down]), torch.tensor(area)


class MeasureData(L.LightningDataModule):
    def __init__(self, batch_size=36, seed=0):
        super().__init__()
        self.batch_size = batch_size
        shapes = Shapes(train=True, count=1100, size=SIDE)
        order = torch.randperm(len(shapes), generator=torch.Generator().manual_seed(seed)).tolist()
        self.train_set = MeasureDataset(shapes, order[200:], flip=True)
        self.val_set = MeasureDataset(shapes, order[:200])
        self.test_set = MeasureDataset(Shapes(train=False, count=240, size=SIDE), range(240))
        areas = torch.stack([self.train_set[k][2] for k in range(len(self.train_set))])
        self.area_mean, self.area_std = areas.mean().item(), areas.std().item()

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=120)


class Measurer(L.LightningModule):
    def __init__(self, area_mean=0.0, area_std=1.0, lr=2e-3, weight_decay=1e-4):
        super().__init__()
        self.save_hyperparameters()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.neck = nn.Sequential(nn.Linear(48 * (SIDE // 4) ** 2, 64), nn.ReLU())
        self.point = nn.Linear(64, 2)
        self.area = nn.Linear(64, 1)

    def forward(self, image):
        h = self.neck(self.body(image))
        return self.point(h), self.area(h).squeeze(1)

    def compute(self, batch):
        image, point, area = batch
        offset, size = self(image)
        z = (area - self.hparams.area_mean) / self.hparams.area_std
        loss = F.smooth_l1_loss(offset, (point - 0.5) * 4) + F.mse_loss(size, z)
        return loss, offset, size

    def training_step(self, batch, batch_idx):
        loss, _, _ = self.compute(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def evaluate(self, batch, stage):
        image, point, area = batch
        loss, offset, size = self.compute(batch)
        miss = SIDE * (offset / 4 + 0.5 - point).norm(dim=1).mean()
        mae = (size * self.hparams.area_std + self.hparams.area_mean - area).abs().mean()
        self.log(f"{stage}_loss", loss, batch_size=len(image))
        self.log(f"{stage}_miss_pixels", miss, batch_size=len(image))
        self.log(f"{stage}_area_mae", mae, batch_size=len(image))

    def validation_step(self, batch, batch_idx):
        self.evaluate(batch, "val")

    def test_step(self, batch, batch_idx):
        self.evaluate(batch, "test")

    def on_validation_epoch_end(self):
        metrics = {name: round(float(value), 4) for name, value in self.trainer.callback_metrics.items()}
        print(f"epoch {self.current_epoch}: {metrics}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(7)
    data = MeasureData()
    model = Measurer(area_mean=data.area_mean, area_std=data.area_std)
    with tempfile.TemporaryDirectory() as folder:
        keeper = ModelCheckpoint(dirpath=folder, monitor="val_loss", mode="min", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=12,
            accelerator="cpu",
            devices=1,
            logger=False,
            callbacks=[keeper],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(model, datamodule=data)
        (result,) = trainer.test(model, datamodule=data, ckpt_path="best", verbose=False)
    print(f"typical area {data.area_mean:.1f} ± {data.area_std:.1f} pixels")
    print(f"test: center off by {result['test_miss_pixels']:.2f} pixels, area by {result['test_area_mae']:.2f} pixels")


if __name__ == "__main__":
    main()
