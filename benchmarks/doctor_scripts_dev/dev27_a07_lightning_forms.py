"""Forms of stickers (square, disc, cross), of which crosses are rare: LightningModule and LightningDataModule."""

import logging
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler, random_split

from toydata import Shapes

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def read_archive():
    """Photos as an archive holds them: N x height x width x 3, uint8, and the number of the form."""
    source = Shapes(train=True, count=2400, size=24)
    forms = torch.tensor(source.targets) % 3
    photos = torch.stack(source.images)
    photos = ((0.7 * photos + 0.3 * torch.rand(photos.shape)).clamp(0, 1) * 255).to(torch.uint8)
    keep = torch.rand(len(forms)) < torch.tensor([1.0, 0.35, 0.15])[forms]
    return photos[keep].permute(0, 2, 3, 1).contiguous(), forms[keep]


class StickerData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        photos, forms = read_archive()
        images = photos.permute(0, 3, 1, 2).float() / 255
        images = (images - 0.5) / 0.18
        data = TensorDataset(images, forms)
        held = len(data) // 4
        self.train_set, self.val_set = random_split(
            data, [len(data) - held, held], generator=torch.Generator().manual_seed(5)
        )

    def train_dataloader(self):
        labels = torch.stack([label for _, label in self.train_set])
        counts = torch.bincount(labels, minlength=3).float()
        weights = 1.0 / counts[labels]
        sampler = WeightedRandomSampler(weights, num_samples=len(labels), replacement=True)
        return DataLoader(self.train_set, batch_size=self.batch_size, sampler=sampler)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


class FormNet(L.LightningModule):
    def __init__(self, lr=1e-3):
        super().__init__()
        self.lr = lr
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 48, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(48)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(48 * 9, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        x = F.max_pool2d(F.relu(self.norm3(self.conv3(x))), 2)
        return self.fc(self.drop(x.flatten(1)))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss

    def on_validation_epoch_start(self):
        self.hits, self.counts = torch.zeros(3), torch.zeros(3)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        pred = self(x).argmax(dim=1)
        self.counts += torch.bincount(y, minlength=3)
        self.hits += torch.bincount(y[pred == y], minlength=3)

    def on_validation_epoch_end(self):
        recall = self.hits / self.counts.clamp(min=1)
        self.log("val_balanced_acc", recall.mean())
        print(f"epoch {self.current_epoch:2d}  balanced accuracy {recall.mean():.3f}  "
              f"square {recall[0]:.3f} disc {recall[1]:.3f} cross {recall[2]:.3f}")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs, eta_min=5e-5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(4)
    torch.set_num_threads(1)
    trainer = L.Trainer(
        max_epochs=16,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(FormNet(), datamodule=StickerData())


if __name__ == "__main__":
    main()
