import warnings

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import waves

warnings.filterwarnings("ignore", ".*does not have many workers.*")


def record(count, seed):
    """What the sensor delivers: 10-bit counts around 512, noisy, recorded one class after the other."""
    signals, labels = waves(count, length=128, seed=seed)
    noise = torch.randn(signals.shape, generator=torch.Generator().manual_seed(seed + 100))
    counts = ((signals + 0.4 * noise) * 120 + 512).round().clamp(0, 1023)
    order = labels.argsort(stable=True)
    return counts[order], labels[order]


class SignalDataset(Dataset):
    def __init__(self, x, y, augment=False):
        self.x, self.y, self.augment = x, y, augment

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        x = self.x[i]
        if self.augment:
            x = x * (0.8 + 0.4 * torch.rand(1))
            x = x + 0.1 * torch.randn_like(x)
        return x, self.y[i]


class SignalData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        x_train, y_train = record(3200, seed=0)
        x_val, y_val = record(800, seed=1)
        mean, std = x_train.mean(), x_train.std()
        self.train_set = SignalDataset((x_train - mean) / std, y_train, augment=True)
        self.val_set = SignalDataset((x_val - mean) / std, y_val)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=200)


def conv_block(c_in, c_out, kernel):
    return nn.Sequential(
        nn.Conv1d(c_in, c_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(c_out),
        nn.ReLU(),
        nn.MaxPool1d(2),
    )


class LitSignalNet(L.LightningModule):
    def __init__(self, lr=2e-3, classes=4):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(conv_block(1, 24, 9), conv_block(24, 48, 7), conv_block(48, 64, 5))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(64, classes))
        self.hits = self.seen = 0
        self.loss_sum = 0.0

    def forward(self, x):
        return self.head(self.encoder(x).mean(-1))

    def loss(self, logits, y):
        return F.cross_entropy(logits, y)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.loss(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.hits = self.seen = 0
        self.loss_sum = 0.0

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.loss_sum += self.loss(logits, y).item() * len(y)
        self.hits += int((logits.argmax(dim=1) == y).sum())
        self.seen += len(y)

    def on_validation_epoch_end(self):
        accuracy = self.hits / self.seen
        self.log("val_acc", accuracy)
        print(f"epoch {self.current_epoch}: val_loss {self.loss_sum / self.seen:.4f} val_acc {accuracy:.4f}", flush=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=1e-2)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def main():
    L.seed_everything(3)
    data = SignalData()
    model = LitSignalNet()
    trainer = L.Trainer(
        max_epochs=12,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    print("final accuracy", trainer.callback_metrics["val_acc"].item())


if __name__ == "__main__":
    main()
