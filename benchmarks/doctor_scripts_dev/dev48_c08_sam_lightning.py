"""Waveform classification with sharpness-aware minimization (Foret et al., 2021), as a Lightning module.

SAM needs two backward passes a step, so optimization is manual.
"""

import logging
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


class WaveData(L.LightningDataModule):
    def __init__(self, batch_size=50):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = TensorDataset(*waves(count=1000, seed=0))
        self.val_set = TensorDataset(*waves(count=300, seed=1))

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, 100)


class ConvBlock(nn.Sequential):
    def __init__(self, n_in, n_out):
        super().__init__(nn.Conv1d(n_in, n_out, 5, stride=2, padding=2), nn.GroupNorm(4, n_out), nn.SiLU())


class WaveClassifier(L.LightningModule):
    def __init__(self, lr=0.05, rho=0.05, max_epochs=10, steps_per_epoch=20):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.net = nn.Sequential(
            ConvBlock(1, 16), ConvBlock(16, 32), ConvBlock(32, 32),
            nn.Flatten(), nn.Linear(32 * 8, 32), nn.SiLU(), nn.Linear(32, 4),
        )
        self.right = self.seen = 0

    def forward(self, x):
        return self.net(x)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9, weight_decay=1e-4)
        total = self.hparams.max_epochs * self.hparams.steps_per_epoch
        scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=total, power=1.0)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def climb(self):
        """Move to the worst place within rho, and return how to come back."""
        steps = []
        with torch.no_grad():
            grads = [p.grad for p in self.parameters()]
            norm = torch.stack([g.norm() for g in grads]).norm()
            for p in self.parameters():
                step = p.grad * (self.hparams.rho / (norm + 1e-12))
                p.add_(step)
                steps.append(step)
        return steps

    @torch.no_grad()
    def descend(self, steps):
        for p, step in zip(self.parameters(), steps):
            p.sub_(step)

    def augment(self, x):
        return x + 0.05 * torch.randn_like(x)

    def training_step(self, batch, batch_idx):
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        x, y = batch
        x = self.augment(x)

        optimizer.zero_grad()
        loss = F.cross_entropy(self(x), y)
        self.manual_backward(loss)
        steps = self.climb()

        optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(self(x), y))
        self.descend(steps)
        optimizer.step()
        scheduler.step()
        self.log("train_loss", loss, on_step=False, on_epoch=True)

    def on_validation_epoch_start(self):
        self.right = self.seen = 0

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.right += int((self(x).argmax(-1) == y).sum())
        self.seen += len(y)

    def on_validation_epoch_end(self):
        accuracy = self.right / self.seen
        self.log("val_acc", accuracy)
        print(f"epoch {self.current_epoch:2d}  val_acc {accuracy:.3f}")


def main():
    L.seed_everything(11)
    data = WaveData()
    data.setup()
    epochs = 14
    model = WaveClassifier(max_epochs=epochs, steps_per_epoch=len(data.train_dataloader()))
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    print({k: round(float(v), 4) for k, v in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
