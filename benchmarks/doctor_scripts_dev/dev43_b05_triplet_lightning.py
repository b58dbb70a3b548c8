"""Metric learning: digits are mapped to the unit sphere with a triplet loss, and recognized by their nearest neighbor."""
import tempfile

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, Dataset, TensorDataset

from toydata import draw_digits

MEAN, STD = 0.15, 0.3


class TripletDigits(Dataset):
    """Each item is an anchor, another digit of its class, and one of a different class."""

    def __init__(self, images, labels, noise_std=12.0):
        self.images = images
        self.labels = labels
        self.noise_std = noise_std
        self.indices = {digit: torch.where(labels == digit)[0].tolist() for digit in range(10)}

    def __len__(self):
        return len(self.images)

    def pick(self, digit):
        choices = self.indices[digit]
        return choices[int(torch.randint(len(choices), (1,)))]

    def augment(self, image):
        pixels = image.float()
        pixels = pixels + self.noise_std * torch.randn(pixels.shape)
        pixels = pixels.clamp(0, 255) / 255
        return (pixels - MEAN) / STD

    def __getitem__(self, index):
        digit = int(self.labels[index])
        other = (digit + int(torch.randint(1, 10, (1,)))) % 10
        positive, negative = self.pick(digit), self.pick(other)
        return tuple(self.augment(self.images[i]) for i in (index, positive, negative))


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=60):
        super().__init__()
        self.batch_size = batch_size

    def plain(self, count, seed):
        images, labels = draw_digits(count, seed=seed)
        return TensorDataset((images.float() / 255 - MEAN) / STD, labels)

    def setup(self, stage=None):
        self.train_set = TripletDigits(*draw_digits(1200, seed=0))
        self.val_set = self.plain(400, seed=1)
        self.test_set = self.plain(400, seed=2)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)

    def test_dataloader(self):
        return DataLoader(self.test_set, batch_size=100)


class EmbeddingNet(L.LightningModule):
    def __init__(self, dim=32, margin=0.4, max_lr=3e-3):
        super().__init__()
        self.save_hyperparameters()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(),
            nn.Linear(64, dim),
        )
        self.criterion = nn.TripletMarginLoss(margin=margin)
        self.losses, self.seen = [], []

    def forward(self, x):
        return F.normalize(self.trunk(x), dim=1)

    def training_step(self, batch, batch_idx):
        anchor, positive, negative = self(torch.cat(batch)).chunk(3)
        loss = self.criterion(anchor, positive, negative)
        self.losses.append(loss.detach())
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.seen.append((self(images), labels))

    def on_validation_epoch_end(self):
        accuracy, auc = self.summarize()
        self.log("val_acc", accuracy)
        loss = torch.stack(self.losses).mean().item()
        self.losses.clear()
        print(f"epoch {self.current_epoch}: train loss {loss:.3f}, nearest neighbor {accuracy:.3f}, pairs AUC {auc:.3f}")

    def test_step(self, batch, batch_idx):
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self):
        accuracy, auc = self.summarize()
        self.log_dict({"test_acc": accuracy, "test_auc": auc})

    def summarize(self):
        """How often the nearest other digit is of the same class, and how well distances tell equal pairs apart."""
        embeddings, labels = (torch.cat(parts) for parts in zip(*self.seen))
        self.seen.clear()
        distances = torch.cdist(embeddings, embeddings)
        same = labels[:, None] == labels[None, :]
        upper = torch.triu(torch.ones_like(same), diagonal=1)
        auc = roc_auc_score(same[upper].numpy(), -distances[upper].numpy())
        nearest = distances.fill_diagonal_(float("inf")).argmin(dim=1)
        return (labels[nearest] == labels).float().mean().item(), float(auc)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.max_lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.max_lr, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main():
    L.seed_everything(7)
    data = DigitsDataModule()
    model = EmbeddingNet()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_acc", mode="max", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=8,
            accelerator="cpu",
            devices=1,
            logger=False,
            callbacks=[checkpoint],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, datamodule=data)
        best = EmbeddingNet.load_from_checkpoint(checkpoint.best_model_path)
        results = trainer.test(best, datamodule=data, verbose=False)[0]
    print(f"kept the epoch with val_acc {float(checkpoint.best_model_score):.3f}: test {results}")


if __name__ == "__main__":
    main()
