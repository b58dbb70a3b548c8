import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import Digits


def scale(image):
    return image.float() / 255


class DigitsDataModule(L.LightningDataModule):
    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = Digits(train=True, transform=scale)
        self.val_set = Digits(train=False, transform=scale)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=100)


class VAE(L.LightningModule):
    def __init__(self, latent_dim=12, lr=4e-3, kl_warmup_steps=120):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 128),
            nn.ReLU(),
        )
        self.to_mu = nn.Linear(128, latent_dim)
        self.to_logvar = nn.Linear(128, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 128),
            nn.ReLU(),
            nn.Linear(128, 32 * 4 * 4),
            nn.ReLU(),
            nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        )

    def encode(self, x):
        hidden = self.encoder(x)
        return self.to_mu(hidden), self.to_logvar(hidden)

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decoder(self.reparameterize(mu, logvar)), mu, logvar

    def terms(self, x):
        logits, mu, logvar = self(x)
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl_per_dim = 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar)
        kl = kl_per_dim.sum(dim=1).mean()
        return logits, reconstruction, kl

    def training_step(self, batch, batch_idx):
        x, _ = batch
        _, reconstruction, kl = self.terms(x)
        beta = min(1.0, (self.global_step + 1) / self.hparams.kl_warmup_steps)
        self.log("train_reconstruction", reconstruction, on_step=False, on_epoch=True)
        return reconstruction + beta * kl

    def validation_step(self, batch, batch_idx):
        x, _ = batch
        logits, reconstruction, kl = self.terms(x)
        self.log("val_reconstruction", reconstruction, batch_size=len(x))
        self.log("val_kl", kl, batch_size=len(x))
        self.log("val_mse", F.mse_loss(logits.sigmoid(), x), batch_size=len(x))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.hparams.lr, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class PrintEpoch(L.Callback):
    def on_train_epoch_end(self, trainer, module):
        shown = {k: round(float(v), 4) for k, v in trainer.callback_metrics.items() if k.startswith("val_")}
        print(f"epoch {trainer.current_epoch:2d} {shown}")


def main():
    L.seed_everything(21)
    data = DigitsDataModule()
    model = VAE()
    trainer = L.Trainer(
        max_epochs=18,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[PrintEpoch()],
    )
    trainer.fit(model, datamodule=data)

    images = torch.stack([image for image, _ in data.val_set])
    mean_image = torch.stack([image for image, _ in data.train_set]).mean(dim=0, keepdim=True)
    model.eval()
    with torch.no_grad():
        error = F.mse_loss(model(images)[0].sigmoid(), images)
        drawn = model.decoder(torch.randn(64, model.hparams.latent_dim)).sigmoid()
    print(f"reconstruction error {error:.4f}, of the mean image {F.mse_loss(mean_image.expand_as(images), images):.4f}")
    print(f"brightness of samples {drawn.mean():.3f}, of images {images.mean():.3f}")


if __name__ == "__main__":
    main()
