"""How many pixels does the shape cover? Regression from images with Lightning."""

import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes


def load_areas(train, size):
    shapes = Shapes(train=train, size=size)
    images = torch.stack(shapes.images)
    areas = (torch.stack(shapes.masks) > 0).sum((1, 2)).float()
    return images, areas


class AreaDataModule(L.LightningDataModule):
    def __init__(self, size=24, batch_size=32, n_val=150):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        images, areas = load_areas(True, self.hparams.size)
        test_images, test_areas = load_areas(False, self.hparams.size)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(42))
        fit, val = order[self.hparams.n_val :], order[: self.hparams.n_val]

        self.pixel_mean = images[fit].mean((0, 2, 3), keepdim=True)
        self.pixel_std = images[fit].std((0, 2, 3), keepdim=True)
        self.area_mean = areas[fit].mean().item()
        self.area_std = areas[fit].std().item()

        self.train_set = TensorDataset(self.normalize(images[fit]), self.scale(areas[fit]))
        self.val_set = TensorDataset(self.normalize(images[val]), self.scale(areas[val]))
        self.test_set = TensorDataset(self.normalize(test_images), self.scale(test_areas))

    def normalize(self, images):
        return (images - self.pixel_mean) / self.pixel_std

    def scale(self, areas):
        return (areas - self.area_mean) / self.area_std

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=50)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=60)


def conv_unit(cin, cout):
    return [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]


class AreaRegressor(L.LightningModule):
    def __init__(self, width=16, max_lr=3e-3, weight_decay=1e-2):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            *conv_unit(3, width),
            nn.MaxPool2d(2),
            *conv_unit(width, 2 * width),
            nn.MaxPool2d(2),
            *conv_unit(2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
        )

    def forward(self, x):
        return self.net(x).squeeze(1)

    def _shared_step(self, batch, stage):
        images, areas = batch
        predicted = self(images)
        loss = F.mse_loss(predicted, areas)
        mae = (predicted.detach() - areas).abs().mean() * self.trainer.datamodule.area_std
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True)
        self.log(f"{stage}_mae", mae, on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch, batch_idx):
        return self._shared_step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self._shared_step(batch, "val")

    def test_step(self, batch, batch_idx):
        self._shared_step(batch, "test")

    def on_validation_epoch_end(self):
        metrics = self.trainer.callback_metrics
        if "val_mae" in metrics:
            print(f"epoch {self.current_epoch}: val_mae {metrics['val_mae'].item():.2f} pixels")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.max_lr, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.max_lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def main():
    L.seed_everything(7)
    datamodule = AreaDataModule()
    model = AreaRegressor()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_mae", mode="min", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=12,
            accelerator="cpu",
            devices=1,
            precision="32-true",
            gradient_clip_val=1.0,
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[checkpoint],
        )
        trainer.fit(model, datamodule=datamodule)
        trainer.test(model, datamodule=datamodule, ckpt_path=checkpoint.best_model_path)


if __name__ == "__main__":
    main()
