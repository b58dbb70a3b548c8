"""Denoising autoencoder of digits in Lightning, the noise of validation is drawn once."""

import logging
import warnings

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from toydata import draw_digits

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def clean_digits(count, seed):
    """Digits on a smooth ground of random slope."""
    digits, _ = draw_digits(count, seed=seed, noise=0.0)
    g = torch.Generator().manual_seed(seed + 100)
    level, across, down = (0.3 * torch.rand(count, 1, 1, 1, generator=g) for _ in range(3))
    axis = torch.linspace(-0.5, 0.5, digits.shape[-1])
    ground = 0.15 + level + across * axis[None, None, None] + down * axis[None, None, :, None]
    return torch.maximum(digits.float() / 255, ground.clamp(0, 1))


class NoisyDigits(Dataset):
    """Fresh noise each time an image is drawn: (noisy, clean)."""

    def __init__(self, clean, sigma=0.4):
        self.clean, self.sigma = clean, sigma

    def __len__(self):
        return len(self.clean)

    def __getitem__(self, index):
        clean = self.clean[index]
        return clean + self.sigma * torch.randn_like(clean), clean


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=32, sigma=0.4):
        super().__init__()
        self.batch_size, self.sigma = batch_size, sigma

    def setup(self, stage=None):
        train, valid = clean_digits(1200, seed=20), clean_digits(300, seed=21)
        self.train_set = NoisyDigits(train, self.sigma)
        fixed = torch.randn(valid.shape, generator=torch.Generator().manual_seed(22))
        self.valid_set = TensorDataset(valid + self.sigma * fixed, valid)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.valid_set, batch_size=100)


class DenoisingAutoencoder(L.LightningModule):
    def __init__(self, lr=2e-3, latent=48):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GELU(),
            nn.Flatten(), nn.Linear(32 * 4 * 4, latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, 32 * 4 * 4), nn.GELU(), nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.GELU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))

    def training_step(self, batch, batch_idx):
        noisy, clean = batch
        loss = F.mse_loss(self(noisy), clean)
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch, batch_idx):
        noisy, clean = batch
        restored = self(noisy).clamp(0, 1)
        self.log("val_mse", F.mse_loss(restored, clean), prog_bar=True)
        self.log("noise_mse", F.mse_loss(noisy.clamp(0, 1), clean))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=2 * self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class PrintMetrics(L.Callback):
    def on_train_epoch_end(self, trainer, module):
        metrics = {name: f"{float(value):.4f}" for name, value in trainer.callback_metrics.items()}
        print(f"epoch {trainer.current_epoch}: {metrics}")


def main():
    L.seed_everything(7)
    torch.set_num_threads(1)
    trainer = L.Trainer(
        max_epochs=18,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[PrintMetrics()],
    )
    trainer.fit(DenoisingAutoencoder(), datamodule=DigitsDataModule())


if __name__ == "__main__":
    main()
