"""Where is the particle and how large is it? Regression from micrographs with Lightning."""

import tempfile

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

PIXEL = 5.0  # micrometers


class Particles(Dataset):
    """Image, center of the particle (x, y from 0 to 1), its area in square micrometers."""

    def __init__(self, shapes, indices, flip=False):
        self.images = [shapes.images[i] for i in indices]
        boxes = torch.stack([shapes.boxes[i] for i in indices])
        self.centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        self.areas = torch.tensor([float((shapes.masks[i] > 0).sum()) * PIXEL**2 for i in indices])
        self.flip = flip

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, center = self.images[i], self.centers[i].clone()
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(2)
            center[0] = 1 - center[0]
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(1)
            center[1] = 1 - center[1]
        return (image - 0.5) / 0.2, center, self.areas[i]


class ParticleData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size
        shapes, held_out = Shapes(train=True, size=20), Shapes(train=False, size=20)
        order = torch.randperm(len(shapes), generator=torch.Generator().manual_seed(7)).tolist()
        self.train_set = Particles(shapes, order[150:], flip=True)
        self.val_set = Particles(shapes, order[:150])
        self.test_set = Particles(held_out, range(len(held_out)))

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=150)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=240)


class ParticleNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 5 * 5, 64), nn.ReLU(),
        )
        self.center = nn.Linear(64, 2)
        self.area = nn.Linear(64, 1)

    def forward(self, x):
        hidden = self.body(x)
        return self.center(hidden), self.area(hidden).squeeze(1)


class ParticleModule(L.LightningModule):
    def __init__(self, area_mean, area_std, lr=2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = ParticleNet()

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        images, centers, areas = batch
        center, area = self(images)
        center_loss = F.mse_loss(center, 2 * centers - 1)
        area_loss = F.mse_loss(area, (areas - self.hparams.area_mean) / self.hparams.area_std)
        loss = 4 * center_loss + area_loss
        self.log("train_loss", loss)
        return loss

    def errors(self, batch):
        images, centers, areas = batch
        center, area = self(images)
        distance = ((center + 1) / 2 - centers).norm(dim=1).mean()
        area = area * self.hparams.area_std + self.hparams.area_mean
        return distance, ((area - areas).abs() / areas).mean()

    def validation_step(self, batch, batch_idx):
        distance, relative = self.errors(batch)
        self.log_dict({"val_distance": distance, "val_area_error": relative, "val_error": distance + relative})

    def test_step(self, batch, batch_idx):
        distance, relative = self.errors(batch)
        self.log_dict({"test_distance": distance, "test_area_error": relative})

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[10, 14], gamma=0.3)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(1)
    data = ParticleData()
    areas = data.train_set.areas
    module = ParticleModule(area_mean=areas.mean().item(), area_std=areas.std().item())
    with tempfile.TemporaryDirectory() as folder:
        keeper = ModelCheckpoint(dirpath=folder, monitor="val_error", mode="min", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=16, accelerator="cpu", devices=1, callbacks=[keeper], logger=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )
        trainer.fit(module, datamodule=data)
        best = torch.load(keeper.best_model_path, weights_only=False)
    module.load_state_dict(best["state_dict"])
    print("best epoch", best["epoch"], "validation error", float(keeper.best_model_score))
    trainer.test(module, datamodule=data)


if __name__ == "__main__":
    main()
