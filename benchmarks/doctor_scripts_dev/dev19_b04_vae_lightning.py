import warnings

import lightning as L
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal
from torch.utils.data import DataLoader

from toydata import Digits

warnings.filterwarnings("ignore")


def to_tensor(image):
    return image.float() / 255


class DigitsData(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = Digits(train=True, count=2500, transform=to_tensor, noise=0.05)
        self.val_set = Digits(train=False, count=500, transform=to_tensor, noise=0.05)

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, 250)


class Encoder(nn.Module):
    def __init__(self, latent_dim):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.LeakyReLU(0.1),
            nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.LeakyReLU(0.1),
            nn.Flatten(), nn.Linear(32 * 4 * 4, 128), nn.LeakyReLU(0.1),
        )
        self.mu = nn.Linear(128, latent_dim)
        self.logvar = nn.Linear(128, latent_dim)

    def forward(self, x):
        h = self.body(x)
        return self.mu(h), self.logvar(h)


class Decoder(nn.Module):
    def __init__(self, latent_dim):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(latent_dim, 128), nn.LeakyReLU(0.1),
            nn.Linear(128, 32 * 4 * 4), nn.LeakyReLU(0.1), nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        )

    def forward(self, z):
        return self.body(z)


class VAE(L.LightningModule):
    def __init__(self, latent_dim=12, lr=2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = Encoder(latent_dim)
        self.decoder = Decoder(latent_dim)

    def forward(self, x):
        mu, logvar = self.encoder(x)
        z = Normal(mu, torch.exp(0.5 * logvar)).rsample()
        return self.decoder(z), mu, logvar

    def loss_function(self, logits, x, mu, logvar):
        recon = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / x.size(0)
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / x.size(0)
        return recon + kld, recon, kld

    def training_step(self, batch, batch_idx):
        x, _ = batch
        logits, mu, logvar = self(x)
        loss, recon, kld = self.loss_function(logits, x, mu, logvar)
        self.log_dict({"train_loss": loss, "train_recon": recon, "train_kld": kld}, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, _ = batch
        logits, mu, logvar = self(x)
        loss, recon, kld = self.loss_function(logits, x, mu, logvar)
        mse = F.mse_loss(torch.sigmoid(logits), x)
        base = F.mse_loss(x.mean(0, keepdim=True).expand_as(x), x)
        self.log_dict({"val_loss": loss, "val_recon": recon, "val_kld": kld, "val_r2": 1 - mse / base})

    def on_validation_epoch_end(self):
        m = self.trainer.callback_metrics
        if not self.trainer.sanity_checking:
            print(f"epoch {self.current_epoch:2d}  val loss {m['val_loss']:.2f}  recon {m['val_recon']:.2f}  "
                  f"kld {m['val_kld']:.2f}  variance explained {m['val_r2']:.3f}")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


if __name__ == "__main__":
    L.seed_everything(1)
    model = VAE()
    trainer = L.Trainer(
        max_epochs=25, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=DigitsData())

    with torch.no_grad():
        samples = torch.sigmoid(model.decoder(torch.randn(64, model.hparams.latent_dim)))
    print("samples from the prior: brightness", round(samples.mean().item(), 3))
