# %% [markdown]
# # A variational autoencoder of digits
# What do eight numbers keep of a digit? At the end a nearest-neighbor probe asks the codes.

# %%
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch.utils.data import DataLoader, TensorDataset

from toydata import Digits

SEED, LATENT, BATCH, EPOCHS, LR = 0, 8, 64, 40, 2e-3
torch.manual_seed(SEED)
np.random.seed(SEED)

# %% data
train_set, test_set = Digits(train=True), Digits(train=False)


def prepare(images):
    return images.float() / 255.0


train_loader = DataLoader(TensorDataset(prepare(train_set.data), train_set.targets), BATCH, shuffle=True)
test_loader = DataLoader(TensorDataset(prepare(test_set.data), test_set.targets), 100)
print(len(train_set), "train,", len(test_set), "test")


# %% model
class VAE(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 4 * 4, 128), nn.ReLU(),
        )
        self.to_mu = nn.Linear(128, latent)
        self.to_logvar = nn.Linear(128, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, 128), nn.ReLU(),
            nn.Linear(128, 32 * 4 * 4), nn.ReLU(),
            nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        )

    def encode(self, x):
        h = self.encoder(x)
        return self.to_mu(h), self.to_logvar(h)

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(z), mu, logvar


def elbo_terms(logits, x, mu, logvar):
    recon = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / x.size(0)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / x.size(0)
    return recon, kl


vae = VAE(LATENT)
optimizer = torch.optim.Adam(vae.parameters(), lr=LR)
print(sum(p.numel() for p in vae.parameters()), "parameters")

# %% training
history = {"train": [], "test": []}
for epoch in range(EPOCHS):
    total = 0.0
    for x, _ in train_loader:
        logits, mu, logvar = vae(x)
        recon, kl = elbo_terms(logits, x, mu, logvar)
        loss = recon + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * x.size(0)
    history["train"].append(total / len(train_set))

    total = 0.0
    with torch.no_grad():
        for x, _ in test_loader:
            logits, mu, logvar = vae(x)
            recon, kl = elbo_terms(logits, x, mu, logvar)
            total += (recon + kl).item() * x.size(0)
    history["test"].append(total / len(test_set))
    if epoch % 5 == 0 or epoch == EPOCHS - 1:
        print(f"epoch {epoch:2d}  train {history['train'][-1]:.2f}  test {history['test'][-1]:.2f}")

# %% reconstructions, compared with always giving the mean image
with torch.no_grad():
    x_test = prepare(test_set.data)
    x_hat = torch.sigmoid(vae.decoder(vae.encode(x_test)[0]))
    mse = F.mse_loss(x_hat, x_test).item()
    mse_mean = F.mse_loss(prepare(train_set.data).mean(0, keepdim=True).expand_as(x_test), x_test).item()
print(f"reconstruction mse {mse:.4f}, of the mean image {mse_mean:.4f}")


# %% what the codes know
@torch.no_grad()
def embed(loader):
    codes, labels = [], []
    for x, y in loader:
        codes.append(vae.encode(x)[0])
        labels.append(y)
    return torch.cat(codes).numpy(), torch.cat(labels).numpy()


z_train, y_train = embed(train_loader)
z_test, y_test = embed(test_loader)
probe = KNeighborsClassifier(n_neighbors=5).fit(z_train, y_train)
print(f"probe accuracy {probe.score(z_test, y_test):.3f}")

# %% samples
with torch.no_grad():
    samples = torch.sigmoid(vae.decoder(torch.randn(16, LATENT)))
print("samples:", tuple(samples.shape), f"mean {samples.mean():.3f} std {samples.std():.3f}")
