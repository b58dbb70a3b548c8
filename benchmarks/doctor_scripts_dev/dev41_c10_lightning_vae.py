"""A variational autoencoder of digits as a LightningModule, with a KL term that fades in."""

import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Digits


class Images(Dataset):
    """Images alone: an autoencoder needs no labels."""

    def __init__(self, digits):
        self.digits = digits

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, index):
        return self.digits[index][0]


class DigitDataModule(L.LightningDataModule):
    def __init__(self, batch_size=50):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        to_unit = lambda image: image.float() / 255
        self.train_set = Images(Digits(train=True, transform=to_unit))
        self.val_set = Images(Digits(train=False, transform=to_unit))

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


class LitVAE(L.LightningModule):
    def __init__(self, latent_dim=12, hidden=256, lr=2e-3, warmup_epochs=5, max_epochs=22):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(256, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent_dim))
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.ReLU(), nn.Linear(hidden, 256), nn.Unflatten(1, (1, 16, 16))
        )

    def encode(self, x):
        mu, logvar = self.encoder((x - 0.18) / 0.33).chunk(2, dim=1)
        return mu, logvar

    def forward(self, x):
        """The reconstruction from the mean of the code."""
        return self.decoder(self.encode(x)[0]).sigmoid()

    def losses(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        # per image: sums over pixels and over the code, so that both are in nats
        recon = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum") / len(x)
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(dim=1).mean()
        return recon, kl

    def training_step(self, batch, batch_idx):
        recon, kl = self.losses(batch)
        beta = min(1.0, (self.current_epoch + 1) / self.hparams.warmup_epochs)
        loss = recon + beta * kl
        self.log_dict({"recon": recon, "kl": kl, "train_loss": loss}, on_step=False, on_epoch=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch, batch_idx):
        recon, kl = self.losses(batch)
        mse = F.mse_loss(self(batch), batch)
        self.log_dict({"val_elbo": -(recon + kl), "val_mse": mse}, batch_size=len(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.hparams.max_epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    @torch.no_grad()
    def sample(self, count):
        return self.decoder(torch.randn(count, self.hparams.latent_dim)).sigmoid()


class PrintMetrics(L.Callback):
    def on_train_epoch_end(self, trainer, module):
        if (trainer.current_epoch + 1) % 4 == 0:
            shown = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items()}
            print(f"epoch {trainer.current_epoch + 1}: {shown}")


def main():
    L.seed_everything(7)
    data = DigitDataModule()
    model = LitVAE()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=model.hparams.max_epochs,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[PrintMetrics()],
        )
        trainer.fit(model, datamodule=data)
        mse = trainer.validate(model, datamodule=data, verbose=False)[0]["val_mse"]

    train_images = data.train_set.digits.data.float() / 255
    val_images = data.val_set.digits.data.float() / 255
    baseline = F.mse_loss(train_images.mean(0).expand_as(val_images), val_images).item()
    print(f"validation: squared error {mse:.4f}, of the mean image {baseline:.4f}")
    model.eval()
    samples = model.sample(64)
    print(f"samples: brightness {samples.mean():.3f}, of digits {val_images.mean():.3f}; "
          f"deviation {samples.std():.3f}, of digits {val_images.std():.3f}")


if __name__ == "__main__":
    main()
