"""Waveform classification with Lightning: slow sine, fast sine, square, chirp."""
import logging
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
CLASSES = ("slow", "fast", "square", "chirp")


class WaveData(L.LightningDataModule):
    def __init__(self, per_class=220, batch_size=20, hum=0.6):
        super().__init__()
        self.per_class, self.batch_size, self.hum = per_class, batch_size, hum

    def record(self, count, seed):
        """Signals as the cheap microphone hears them."""
        signals, labels = waves(count, seed=seed)
        generator = torch.Generator().manual_seed(100 + seed)
        return signals + self.hum * torch.randn(signals.shape, generator=generator), labels

    def setup(self, stage=None):
        signals, labels = self.record(1200, seed=3)
        chunks, targets = [], []
        # the same number of recordings for each class
        for k in range(len(CLASSES)):
            mine = signals[labels == k][: self.per_class]
            chunks.append(mine)
            targets.append(torch.full((len(mine),), k))
        self.train = TensorDataset(torch.cat(chunks), torch.cat(targets))
        self.val = TensorDataset(*self.record(300, seed=4))
        self.test = TensorDataset(*self.record(400, seed=5))

    def train_dataloader(self):
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test, self.batch_size)


class WaveNet(L.LightningModule):
    def __init__(self, channels=16, max_lr=0.01, epochs=8):
        super().__init__()
        self.save_hyperparameters()
        self.features = nn.Sequential(
            nn.Conv1d(1, channels, 7, padding=3),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(channels, 2 * channels, 5, padding=2),
            nn.BatchNorm1d(2 * channels),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(2 * channels, 2 * channels, 3, padding=1),
            nn.GELU(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(2 * channels, len(CLASSES))

    def forward(self, signal):
        return F.log_softmax(self.head(self.features(signal)), dim=1)

    def shared_step(self, batch, name):
        signal, label = batch
        log_p = self(signal)
        loss = F.nll_loss(log_p, label)
        accuracy = (log_p.argmax(dim=1) == label).float().mean()
        self.log_dict({f"{name}/loss": loss, f"{name}/acc": accuracy}, on_step=False, on_epoch=True, batch_size=len(label))
        return loss

    def training_step(self, batch, batch_idx):
        return self.shared_step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.shared_step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.shared_step(batch, "test")

    def on_validation_epoch_end(self):
        if self.trainer.sanity_checking:
            return
        metrics = self.trainer.callback_metrics
        print(f"epoch {self.current_epoch}: val loss {metrics['val/loss']:.4f}, val acc {metrics['val/acc']:.4f}")

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.max_lr, momentum=0.9)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.max_lr, total_steps=steps, pct_start=0.25, div_factor=50
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def cli():
    L.seed_everything(17, verbose=False)
    model, data = WaveNet(max_lr=0.03, epochs=8), WaveData()
    trainer = L.Trainer(
        max_epochs=model.hparams.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
    )
    trainer.fit(model, datamodule=data)
    (result,) = trainer.test(model, datamodule=data, verbose=False)
    print(f"test: loss {result['test/loss']:.4f}  accuracy {result['test/acc']:.4f}")


if __name__ == "__main__":
    cli()
