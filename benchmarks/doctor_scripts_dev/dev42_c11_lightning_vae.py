"""Variational autoencoder of digits as a LightningModule, the KL term warmed up."""
import tempfile

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from toydata import Digits


def to_unit(image):
    return image.float() / 255


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = Digits(train=True, transform=to_unit)
        self.val_set = Digits(train=False, transform=to_unit)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


class Encoder(nn.Module):
    def __init__(self, latent_dim, hidden):
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(256, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.mu = nn.Linear(hidden, latent_dim)
        self.log_var = nn.Linear(hidden, latent_dim)

    def forward(self, x):
        h = self.body((x - 0.15) / 0.3)
        return self.mu(h), self.log_var(h)


class Decoder(nn.Sequential):
    def __init__(self, latent_dim, hidden):
        super().__init__(
            nn.Linear(latent_dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 256),
            nn.Unflatten(1, (1, 16, 16)),
        )


class LitVAE(L.LightningModule):
    def __init__(self, latent_dim=12, hidden=192, lr=2e-3, kl_warmup_steps=100):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = Encoder(latent_dim, hidden)
        self.decoder = Decoder(latent_dim, hidden)

    def forward(self, x):
        mu, _ = self.encoder(x)
        return torch.sigmoid(self.decoder(mu))

    def elbo_terms(self, x):
        mu, log_var = self.encoder(x)
        z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
        logits = self.decoder(z)
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp(), dim=1).mean()
        return reconstruction, kl

    def kl_weight(self):
        return min(1.0, (self.global_step + 1) / self.hparams.kl_warmup_steps)

    def training_step(self, batch, batch_idx):
        x, _ = batch
        reconstruction, kl = self.elbo_terms(x)
        loss = reconstruction + self.kl_weight() * kl
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(x))
        return loss

    def validation_step(self, batch, batch_idx):
        x, _ = batch
        reconstruction, kl = self.elbo_terms(x)
        error = F.mse_loss(self(x), x)
        self.log_dict({"val_elbo": reconstruction + kl, "val_kl": kl, "val_mse": error}, batch_size=len(x))

    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking and self.current_epoch % 5 == 4:
            metrics = {k: round(v.item(), 4) for k, v in self.trainer.callback_metrics.items()}
            print(f"epoch {self.current_epoch}: {metrics}")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


def main():
    L.seed_everything(11)
    datamodule = DigitsDataModule()
    model = LitVAE()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = ModelCheckpoint(dirpath=folder, monitor="val_elbo", mode="min", save_top_k=1)
        trainer = L.Trainer(
            max_epochs=25,
            accelerator="cpu",
            devices=1,
            callbacks=[checkpoint],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=folder,
        )
        trainer.fit(model, datamodule=datamodule)
        print(f"best val_elbo {checkpoint.best_model_score.item():.2f}")
        state = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=False)["state_dict"]
    model.load_state_dict(state)

    model.eval()
    with torch.no_grad():
        images = torch.stack([image for image, _ in datamodule.val_set])
        mean_image = torch.stack([image for image, _ in datamodule.train_set]).mean(0, keepdim=True)
        error, baseline = F.mse_loss(model(images), images), F.mse_loss(mean_image.expand_as(images), images)
        samples = torch.sigmoid(model.decoder(torch.randn(16, model.hparams.latent_dim)))
    print(f"reconstruction mse {error.item():.4f} (mean image {baseline.item():.4f}), samples {tuple(samples.shape)}")


if __name__ == "__main__":
    main()
