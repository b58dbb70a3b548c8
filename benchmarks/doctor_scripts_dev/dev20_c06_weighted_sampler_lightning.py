"""Long-tailed digits in Lightning: a weighted sampler shows all classes equally often."""

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from toydata import draw_digits


class ArrayDataset(Dataset):
    def __init__(self, images, labels, mean, std, augment):
        self.images = (images.float() / 255 - mean) / std
        self.labels = labels
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        if self.augment:
            shift = torch.randint(-1, 2, (2,)).tolist()
            image = torch.roll(image, shift, dims=(-2, -1))
            image = image + 0.1 * torch.randn_like(image)
        return image, self.labels[index]


class LongTailDigits(L.LightningDataModule):
    def __init__(self, largest=500, ratio=0.1, batch_size=64):
        super().__init__()
        self.largest, self.ratio, self.batch_size = largest, ratio, batch_size

    def setup(self, stage=None):
        images, labels = draw_digits(8000, seed=30)
        keep = []
        for k in range(10):
            count = int(self.largest * self.ratio ** (k / 9))
            keep.append((labels == k).nonzero().flatten()[:count])
        keep = torch.cat(keep)
        images, labels = images[keep], labels[keep]
        pixels = images.float() / 255
        mean, std = pixels.mean(), pixels.std()
        self.train_set = ArrayDataset(images, labels, mean, std, augment=True)
        val_images, val_labels = draw_digits(800, seed=31)
        self.val_set = ArrayDataset(val_images, val_labels, mean, std, augment=False)

    def train_dataloader(self):
        labels = self.train_set.labels
        counts = torch.bincount(labels, minlength=10)
        weights = 1.0 / counts[labels].double()
        sampler = WeightedRandomSampler(weights, num_samples=len(labels), replacement=True)
        return DataLoader(self.train_set, batch_size=self.batch_size, sampler=sampler)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=200)


class LitClassifier(L.LightningModule):
    def __init__(self, lr=1e-3, epochs=30):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * 16, 10),
        )
        self.confusion = torch.zeros(10, 10)
        self.losses = []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.losses.append(loss.detach())
        return loss

    def on_validation_epoch_start(self):
        self.confusion.zero_()

    def validation_step(self, batch, batch_idx):
        x, y = batch
        predictions = self(x).argmax(dim=1)
        self.confusion += torch.bincount(10 * y + predictions, minlength=100).reshape(10, 10)

    def on_validation_epoch_end(self):
        recalls = self.confusion.diag() / self.confusion.sum(dim=1).clamp(min=1)
        balanced = recalls.mean()
        self.log("val_balanced_accuracy", balanced)
        loss = torch.stack(self.losses).mean().item() if self.losses else float("nan")
        self.losses.clear()
        print(
            f"epoch {self.current_epoch}: train loss {loss:.4f}, balanced accuracy {balanced.item():.4f}, "
            f"rarest class {recalls[9].item():.4f}"
        )

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.epochs, eta_min=1e-5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(5)
    model = LitClassifier()
    trainer = L.Trainer(
        max_epochs=model.hparams.epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=LongTailDigits())


if __name__ == "__main__":
    main()
