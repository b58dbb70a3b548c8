"""Convolutional variational autoencoder of digits with Lightning."""
import warnings

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

warnings.filterwarnings("ignore", ".*num_workers.*")


class DigitsData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        train, _ = draw_digits(3000, seed=0, noise=0.03)
        valid, _ = draw_digits(500, seed=1, noise=0.03)
        self.train_set = TensorDataset(train.float() / 255)
        self.valid_set = TensorDataset(valid.float() / 255)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.valid_set, batch_size=100)


class ConvVAE(L.LightningModule):
    def __init__(self, latent=10, lr=2e-3):
        super().__init__()
        self.lr = lr
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
        )
        self.to_mu = nn.Linear(128, latent)
        self.to_logvar = nn.Linear(128, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, 128),
            nn.ReLU(),
            nn.Linear(128, 64 * 4 * 4),
            nn.ReLU(),
            nn.Unflatten(1, (64, 4, 4)),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1),
        )
        self.sums = []

    def encode(self, x):
        hidden = self.encoder(x)
        return self.to_mu(hidden), self.to_logvar(hidden)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + std * torch.randn_like(std)

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decoder(self.reparameterize(mu, logvar)), mu, logvar

    def elbo_terms(self, x, logits, mu, logvar):
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        divergence = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
        return reconstruction, divergence

    def training_step(self, batch, batch_idx):
        (x,) = batch
        logits, mu, logvar = self(x)
        reconstruction, divergence = self.elbo_terms(x, logits, mu, logvar)
        beta = 1.0
        return reconstruction + beta * divergence

    def validation_step(self, batch, batch_idx):
        (x,) = batch
        mu, logvar = self.encode(x)
        logits = self.decoder(mu)
        reconstruction, divergence = self.elbo_terms(x, logits, mu, logvar)
        error = (torch.sigmoid(logits) - x).square().mean()
        self.sums.append(torch.stack([reconstruction, divergence, error, torch.ones_like(error)]) * len(x))

    def on_validation_epoch_end(self):
        reconstruction, divergence, error, count = torch.stack(self.sums).sum(dim=0).tolist()
        self.sums.clear()
        print(
            f"epoch {self.current_epoch:2d}: valid bce {reconstruction / count:.2f}, "
            f"kl {divergence / count:.2f}, mse {error / count:.5f}"
        )

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


def cli():
    L.seed_everything(13)
    torch.set_num_threads(1)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=15,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(ConvVAE(), datamodule=DigitsData())


if __name__ == "__main__":
    cli()
