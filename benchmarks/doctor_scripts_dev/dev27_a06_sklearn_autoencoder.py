"""A convolutional denoising autoencoder behind the interface of scikit-learn: fit, transform, score."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class GaussianNoise(nn.Module):
    def __init__(self, sigma):
        super().__init__()
        self.sigma = sigma

    def forward(self, x):
        if self.training:
            x = x + self.sigma * torch.randn_like(x)
        return x


class AutoencoderModule(nn.Module):
    def __init__(self, latent=32, width=16, noise=0.3, dropout=0.1):
        super().__init__()
        self.width = width
        self.encoder = nn.Sequential(
            GaussianNoise(noise),
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, latent),
        )
        self.dropout = nn.Dropout(dropout)
        self.expand = nn.Linear(latent, 2 * width * 16)
        layers = [
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 1, 3, padding=1),
        ]
        self.decoder = nn.ModuleList(layers)

    def forward(self, x):
        x = self.expand(self.dropout(self.encoder(x))).view(-1, 2 * self.width, 4, 4)
        for layer in self.decoder:
            x = layer(x)
        return torch.sigmoid(x)


class ConvAutoencoder(BaseEstimator, TransformerMixin):
    def __init__(
        self, module=AutoencoderModule, latent=32, lr=2e-3, optimizer=torch.optim.AdamW, weight_decay=0.01,
        max_epochs=20, batch_size=32, random_state=0, verbose=1,
    ):
        self.module = module
        self.latent = latent
        self.lr = lr
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.random_state = random_state
        self.verbose = verbose

    def initialize(self):
        torch.manual_seed(self.random_state)
        self.module_ = self.module(latent=self.latent)
        self.optimizer_ = self.optimizer(self.module_.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        self.history_ = []
        return self

    def get_loss(self, output, x):
        return nn.functional.mse_loss(output, x)

    def get_iterator(self, X, training):
        data = TensorDataset(torch.as_tensor(X, dtype=torch.float32))
        return DataLoader(data, batch_size=self.batch_size if training else 100, shuffle=training)

    def train_step(self, x):
        self.optimizer_.zero_grad()
        loss = self.get_loss(self.module_(x), x)
        loss.backward()
        self.optimizer_.step()
        return loss.item()

    def run_epoch(self, X):
        self.module_.train()
        total = 0.0
        for (x,) in self.get_iterator(X, training=True):
            total += self.train_step(x) * len(x)
        return total / len(X)

    def fit(self, X, y=None, X_valid=None):
        self.initialize()
        scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer_, gamma=0.93)
        for epoch in range(1, self.max_epochs + 1):
            row = {"epoch": epoch, "train_loss": self.run_epoch(X)}
            if X_valid is not None:
                row["valid_mse"] = -self.score(X_valid)
            scheduler.step()
            self.history_.append(row)
            if self.verbose:
                print("  ".join(f"{k} {v:.5f}" if isinstance(v, float) else f"{k} {v:3d}" for k, v in row.items()))
        return self

    @torch.no_grad()
    def reconstruct(self, X):
        self.module_.eval()
        return np.concatenate([self.module_(x).numpy() for (x,) in self.get_iterator(X, training=False)])

    @torch.no_grad()
    def transform(self, X):
        self.module_.train(False)
        return np.concatenate([self.module_.encoder(x).numpy() for (x,) in self.get_iterator(X, training=False)])

    def score(self, X, y=None):
        return -float(((self.reconstruct(X) - X) ** 2).mean())


def load(count, seed):
    images, labels = draw_digits(count, seed=seed, noise=0.05)
    return (images.float() / 255).numpy(), labels.numpy()


if __name__ == "__main__":
    torch.set_num_threads(1)
    X_train, y_train = load(1500, seed=30)
    X_valid, y_valid = load(400, seed=31)
    mean_image = X_train.mean(0)
    print(f"error of the mean image: {((X_valid - mean_image) ** 2).mean():.5f}")
    model = ConvAutoencoder(latent=32).fit(X_train, X_valid=X_valid)
    print(f"validation error: {-model.score(X_valid):.5f}, codes {model.transform(X_valid).shape}")
