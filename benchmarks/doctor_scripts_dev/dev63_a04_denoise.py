"""Residual denoiser for digits (DnCNN) with Lightning."""

from argparse import ArgumentParser

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class DigitsDataModule(L.LightningDataModule):
    """Clean digits; the noise is added by the model's steps."""

    def __init__(self, batch_size: int = 32, train_count: int = 800, val_count: int = 200):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        self.train_set = self._make(self.hparams.train_count, seed=0)
        self.val_set = self._make(self.hparams.val_count, seed=1)

    @staticmethod
    def _make(count, seed):
        images, _ = draw_digits(count, size=16, seed=seed, noise=0.0)
        return TensorDataset(images.float() / 255)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.hparams.batch_size)


class DnCNN(nn.Module):
    """Predicts the noise of an image; the denoised image is the input without it."""

    def __init__(self, channels: int = 1, width: int = 24, depth: int = 4):
        super().__init__()
        layers = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Conv2d(width, channels, 3, padding=1)]
        self.net = nn.Sequential(*layers)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, noisy):
        return noisy - self.net(noisy)


class LitDenoiser(L.LightningModule):
    def __init__(self, sigma: float = 60.0, lr: float = 2e-3, weight_decay: float = 1e-4):
        """sigma: standard deviation of the noise, in gray levels of 0 to 255."""
        super().__init__()
        self.save_hyperparameters()
        self.model = DnCNN()
        self.noise_std = sigma / 255
        self.squared_error = 0.0
        self.pixels = 0

    def forward(self, x):
        return self.model(x)

    def add_noise(self, clean, generator=None):
        noise = torch.randn(clean.shape, generator=generator)
        return clean + self.noise_std * noise.to(clean)

    def training_step(self, batch, batch_idx):
        (clean,) = batch
        noisy = self.add_noise(clean)
        denoised = self(noisy)
        loss = F.mse_loss(denoised, clean)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(clean))
        return loss

    def on_validation_epoch_start(self):
        self.squared_error, self.pixels = 0.0, 0

    def validation_step(self, batch, batch_idx):
        (clean,) = batch
        # the same noise in each epoch
        noisy = self.add_noise(clean, torch.Generator().manual_seed(1000 + batch_idx))
        denoised = self(noisy).clamp(0, 1)
        self.squared_error += F.mse_loss(denoised, clean, reduction="sum").item()
        self.pixels += clean.numel()

    def on_validation_epoch_end(self):
        mse = self.squared_error / max(self.pixels, 1)
        psnr = 10 * torch.log10(torch.tensor(1.0 / max(mse, 1e-10)))
        self.log("val_psnr", psnr)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.hparams.lr,
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=0.2,
            div_factor=50,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


class PrintMetrics(L.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        line = " ".join(f"{name}={value:.4f}" for name, value in sorted(metrics.items()))
        print(f"epoch {trainer.current_epoch}: {line}")


def main():
    parser = ArgumentParser()
    parser.add_argument("--sigma", type=float, default=60.0, help="noise level in gray levels")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--max_epochs", type=int, default=10)
    args = parser.parse_args()

    L.seed_everything(7)
    datamodule = DigitsDataModule(batch_size=args.batch_size)
    model = LitDenoiser(sigma=args.sigma, lr=args.lr)
    trainer = L.Trainer(
        max_epochs=args.max_epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[PrintMetrics()],
    )
    trainer.fit(model, datamodule=datamodule)


if __name__ == "__main__":
    main()
