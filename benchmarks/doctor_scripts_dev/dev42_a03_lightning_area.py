"""How many square micrometers does the cell cover? Regression from images with Lightning."""

import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from sklearn.metrics import r2_score
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

PIXEL_AREA = 25.0  # square micrometers


class AreaDataset(Dataset):
    def __init__(self, images, areas, mean, std, augment=False):
        self.images, self.areas = images, areas
        self.mean, self.std = mean, std
        self.augment = augment

    def __len__(self):
        return len(self.images)

    @staticmethod
    def jitter(image):
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
        if torch.rand(()) < 0.5:
            image = image.flip(-2)
        return image + 0.02 * torch.randn_like(image)

    def __getitem__(self, index):
        image = self.images[index]
        if self.augment:
            image = self.jitter(image)
        return (image - self.mean) / self.std, self.areas[index]


class CellDataModule(L.LightningDataModule):
    def __init__(self, size=20, batch_size=32, num_val=200):
        super().__init__()
        self.save_hyperparameters()

    def load(self, train, count):
        shapes = Shapes(train=train, count=count, size=self.hparams.size)
        areas = torch.stack([(mask > 0).sum() for mask in shapes.masks]).float() * PIXEL_AREA
        return torch.stack(shapes.images), areas

    def prepare(self):
        images, areas = self.load(train=True, count=900)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(42))
        fit, held = order[self.hparams.num_val :], order[: self.hparams.num_val]
        mean = images[fit].mean(dim=(0, 2, 3)).view(3, 1, 1)
        std = images[fit].std(dim=(0, 2, 3)).view(3, 1, 1)
        self.area_mean, self.area_std = areas[fit].mean().item(), areas[fit].std().item()
        self.train_set = AreaDataset(images[fit], areas[fit], mean, std, augment=True)
        self.val_set = AreaDataset(images[held], areas[held], mean, std)
        self.test_set = AreaDataset(*self.load(train=False, count=240), mean, std)
        return self

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=120)


def conv(inputs, outputs):
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class AreaRegressor(L.LightningModule):
    def __init__(self, area_mean=0.0, area_std=1.0, lr=3e-3, weight_decay=1e-4):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(
            *conv(3, 16),
            nn.AvgPool2d(2),
            *conv(16, 32),
            nn.AvgPool2d(2),
            *conv(32, 64),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
        self.seen = []

    def forward(self, images):
        return self.head(self.encoder(images)).squeeze(1)

    def to_area(self, prediction):
        return prediction.detach() * self.hparams.area_std + self.hparams.area_mean

    def shared_step(self, batch):
        images, areas = batch
        prediction = self(images)
        loss = F.mse_loss(prediction, (areas - self.hparams.area_mean) / self.hparams.area_std)
        mae = (self.to_area(prediction) - areas).abs().mean()
        return loss, mae

    def training_step(self, batch, batch_idx):
        loss, mae = self.shared_step(batch)
        self.log("train_mae", mae, on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch, batch_idx):
        loss, mae = self.shared_step(batch)
        self.log("val_loss", loss, batch_size=len(batch[0]))
        self.log("val_mae", mae, batch_size=len(batch[0]))

    def on_train_epoch_end(self):
        print(f"epoch {self.current_epoch} val_mae {float(self.trainer.callback_metrics['val_mae']):.1f}")

    def test_step(self, batch, batch_idx):
        _, mae = self.shared_step(batch)
        self.log("test_mae", mae, batch_size=len(batch[0]))
        self.seen.append((batch[1], self.to_area(self(batch[0]))))

    def on_test_epoch_end(self):
        areas, predicted = (torch.cat(parts).cpu().numpy() for parts in zip(*self.seen))
        self.log("test_r2", float(r2_score(areas, predicted)))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(42)
    dm = CellDataModule().prepare()
    model = AreaRegressor(area_mean=dm.area_mean, area_std=dm.area_std)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_mae", mode="min")
        stopping = EarlyStopping(monitor="val_mae", mode="min", patience=6)
        trainer = L.Trainer(
            max_epochs=12,
            accelerator="cpu",
            devices=1,
            logger=False,
            callbacks=[checkpoint, stopping],
            gradient_clip_val=5.0,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, datamodule=dm)
        print(trainer.test(model, datamodule=dm, ckpt_path="best", verbose=False))


if __name__ == "__main__":
    main()
