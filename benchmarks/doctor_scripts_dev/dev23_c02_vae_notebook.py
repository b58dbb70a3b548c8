# %% [markdown]
# # A variational autoencoder for small digits
# Bernoulli likelihood, warm-up of the KL term, and a linear probe on the codes at the end.

# %%
import math

import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import Digits

torch.manual_seed(7)
LATENT, EPOCHS, BATCH, WARMUP = 12, 36, 64, 350

to_float = lambda image: image.float() / 255
train_set = Digits(train=True, count=2400, transform=to_float, noise=0.05)
valid_set = Digits(train=False, count=400, transform=to_float, noise=0.05)
train_loader = DataLoader(train_set, batch_size=BATCH, shuffle=True)
valid_loader = DataLoader(valid_set, batch_size=200)

# %%
pixels = train_set.data.float() / 255
MEAN, STD = pixels.mean().item(), pixels.std().item()
print(f"{len(train_set)} images, mean {MEAN:.3f}, std {STD:.3f}")


# %%
class VAE(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 24, 4, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(24, 48, 4, stride=2, padding=1), nn.SiLU(),
            nn.Flatten(), nn.Linear(48 * 16, 128), nn.SiLU(),
        )
        self.mu = nn.Linear(128, latent)
        self.logvar = nn.Linear(128, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, 128), nn.SiLU(),
            nn.Linear(128, 48 * 16), nn.SiLU(), nn.Unflatten(1, (48, 4, 4)),
            nn.ConvTranspose2d(48, 24, 4, stride=2, padding=1), nn.SiLU(),
            nn.ConvTranspose2d(24, 1, 4, stride=2, padding=1),
        )

    def encode(self, x):
        hidden = self.encoder((x - MEAN) / STD)
        return self.mu(hidden), self.logvar(hidden)

    def forward(self, x):
        mu, logvar = self.encode(x)
        # the sample is drawn in training only: validation uses the mean of the code
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp() if self.training else mu
        return self.decoder(z), mu, logvar


def terms(logits, x, mu, logvar):
    """Nats per image: sums over pixels and code, means over the batch."""
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
    divergence = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)
    return reconstruction.mean(), divergence.mean()


# %%
model = VAE(LATENT)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[24, 31], gamma=0.4)

step = 0
for epoch in range(1, EPOCHS + 1):
    model.train()
    running = 0.0
    for x, _ in train_loader:
        logits, mu, logvar = model(x)
        reconstruction, divergence = terms(logits, x, mu, logvar)
        beta = min(1.0, (step + 1) / WARMUP)
        loss = reconstruction + beta * divergence
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        running += (reconstruction + divergence).item() * len(x)
        step += 1
    scheduler.step()

    model.eval()
    sums, errors = [0.0, 0.0], 0.0
    with torch.no_grad():
        for x, _ in valid_loader:
            logits, mu, logvar = model(x)
            for i, term in enumerate(terms(logits, x, mu, logvar)):
                sums[i] += term.item() * len(x)
            errors += (logits.sigmoid() - x).pow(2).mean(dim=(1, 2, 3)).sum().item()
    n = len(valid_set)
    print(
        f"epoch {epoch:2d} beta {beta:.2f} train -elbo {running / len(train_set):7.2f} | valid reconstruction "
        f"{sums[0] / n:7.2f} kl {sums[1] / n:6.2f} psnr {-10 * math.log10(errors / n):5.2f} dB"
    )


# %%
@torch.no_grad()
def codes(dataset):
    return model.encode(dataset.data.float() / 255)[0].numpy(), dataset.targets.numpy()


probe = LogisticRegression(max_iter=1000).fit(*codes(train_set))
print(f"linear probe on the codes: {probe.score(*codes(valid_set)):.3f} of validation digits")
