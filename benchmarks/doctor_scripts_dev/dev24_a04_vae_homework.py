# %% [markdown]
# # Homework 4: Variational autoencoder
# Train a VAE on the digits. Hand in: the reconstruction error on the validation digits and ten samples.

# %%
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(4)

LATENT_DIM = 16
BATCH_SIZE = 50
EPOCHS = 40
LR = 1e-3

# %% [markdown]
# ## 1. Data

# %%
train_images, train_labels = draw_digits(2500, seed=0, noise=0.05, shift=1)
val_images, val_labels = draw_digits(500, seed=1, noise=0.05, shift=1)


def to_float(images):
    return images.float() / 255


train_x = to_float(train_images)
val_x = to_float(val_images)
print("train", tuple(train_x.shape), "val", tuple(val_x.shape))

train_loader = DataLoader(TensorDataset(train_x, train_labels), batch_size=BATCH_SIZE, shuffle=True)
val_loader = DataLoader(TensorDataset(val_x, val_labels), batch_size=BATCH_SIZE)

# how good is the mean image? we have to be much better than this
baseline = ((val_x - train_x.mean(0, keepdim=True)) ** 2).mean().item()
print(f"MSE of the mean image: {baseline:.4f}")

# %% [markdown]
# ## 2. Model


# %%
class VAE(nn.Module):
    def __init__(self, latent_dim):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 128),
            nn.ReLU(),
        )
        self.fc_mu = nn.Linear(128, latent_dim)
        self.fc_logvar = nn.Linear(128, latent_dim)
        decoder_layers = [
            nn.Linear(latent_dim, 128),
            nn.ReLU(),
            nn.Linear(128, 32 * 4 * 4),
            nn.ReLU(),
            nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, kernel_size=4, stride=2, padding=1),
        ]
        self.decoder_layers = nn.ModuleList(decoder_layers)

    def encode(self, x):
        h = self.encoder(x)
        return self.fc_mu(h), self.fc_logvar(h)

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        for layer in self.decoder_layers:
            z = layer(z)
        return z  # logits of the pixels

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(logits, x, mu, logvar):
    """Reconstruction + KL divergence, both summed over pixels/latents and batch"""
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce, kld


# %% [markdown]
# ## 3. Training

# %%
model = VAE(LATENT_DIM)
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
print(sum(p.numel() for p in model.parameters()), "parameters")


def evaluate(loader):
    model.eval()
    mse_sum, loss_sum, kld_sum, pixels, n = 0.0, 0.0, 0.0, 0, 0
    with torch.no_grad():
        for x, _ in loader:
            logits, mu, logvar = model(x)
            bce, kld = loss_function(logits, x, mu, logvar)
            recon = torch.sigmoid(logits)
            mse_sum += ((recon - x) ** 2).sum().item()
            loss_sum += (bce + kld).item()
            kld_sum += kld.item()
            pixels += x.numel()
            n += len(x)
    return mse_sum / pixels, loss_sum / n, kld_sum / n


history = {"train": [], "val": [], "mse": []}
for epoch in range(1, EPOCHS + 1):
    model.train()
    running, seen = 0.0, 0
    for x, _ in train_loader:
        logits, mu, logvar = model(x)
        bce, kld = loss_function(logits, x, mu, logvar)
        loss = bce + kld

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        running += loss.item()
        seen += len(x)
    mse, val_loss, val_kld = evaluate(val_loader)
    history["train"].append(running / seen)
    history["val"].append(val_loss)
    history["mse"].append(mse)
    print(
        f"epoch {epoch:2d}  train loss {running / seen:.2f}  val loss {val_loss:.2f}  "
        f"KL {val_kld:.2f}  val MSE {mse:.4f}"
    )

# %% [markdown]
# ## 4. Results

# %%
print(f"val MSE {history['mse'][-1]:.4f} (mean image: {baseline:.4f})")

model.eval()
with torch.no_grad():
    samples = torch.sigmoid(model.decode(torch.randn(10, LATENT_DIM)))
for row in range(0, 16, 2):
    print(" ".join("".join("#" if v > 0.5 else "." for v in s[0, row, ::2].tolist()) for s in samples[:6]))
