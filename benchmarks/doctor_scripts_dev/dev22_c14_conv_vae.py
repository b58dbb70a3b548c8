"""A convolutional variational autoencoder on digits; the weight of the KL divergence grows at first."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

LATENT, EPOCHS, BATCH, WARM_EPOCHS = 12, 38, 60, 8


class VAE(nn.Module):
    def __init__(self, latent=LATENT):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 4, stride=2, padding=1),  # 8 x 8
            nn.LeakyReLU(0.1),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),  # 4 x 4
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 128),
            nn.LeakyReLU(0.1),
        )
        self.to_mean = nn.Linear(128, latent)
        self.to_logvar = nn.Linear(128, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, 128),
            nn.LeakyReLU(0.1),
            nn.Linear(128, 48 * 4 * 4),
            nn.LeakyReLU(0.1),
            nn.Unflatten(1, (48, 4, 4)),
            nn.ConvTranspose2d(48, 24, 4, stride=2, padding=1),  # 8 x 8
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(24, 1, 4, stride=2, padding=1),  # 16 x 16, logits of the brightness
        )

    def encode(self, images):
        hidden = self.encoder(images)
        return self.to_mean(hidden), self.to_logvar(hidden)

    def reparameterize(self, mean, logvar):
        if not self.training:
            return mean
        return mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)

    def forward(self, images):
        mean, logvar = self.encode(images)
        return self.decoder(self.reparameterize(mean, logvar)), mean, logvar

    @torch.no_grad()
    def sample(self, count):
        return torch.sigmoid(self.decoder(torch.randn(count, LATENT)))


def vae_loss(logits, images, mean, logvar):
    """Both parts are sums over pixels and latent numbers, and means over images."""
    reconstruction = F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
    divergence = -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum() / len(images)
    return reconstruction, divergence


def load(count, seed):
    images, _ = draw_digits(count, seed=seed, noise=0.05)
    return TensorDataset(images.float() / 255)  # brightness stays in [0, 1]: the likelihood is Bernoulli's


def evaluate(model, loader):
    model.eval()
    sums = torch.zeros(3, dtype=torch.double)
    with torch.no_grad():
        for (images,) in loader:
            logits, mean, logvar = model(images)
            reconstruction, divergence = vae_loss(logits, images, mean, logvar)
            squared = (torch.sigmoid(logits) - images).square().mean()
            sums += torch.stack([reconstruction, divergence, squared]).double() * len(images)
    return (sums / len(loader.dataset)).tolist()


def ascii_art(image):
    return "\n".join("".join(" .:*#"[min(4, int(5 * value))] for value in row) for row in image.tolist())


def main():
    torch.manual_seed(99)
    train_set, valid_set = load(3000, 0), load(400, 1)
    train_loader = DataLoader(train_set, BATCH, shuffle=True)
    valid_loader = DataLoader(valid_set, 100)
    valid_images = valid_set.tensors[0]
    baseline = (valid_images - train_set.tensors[0].mean(0)).square().mean().item()

    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.5e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
    step, warm_steps = 0, WARM_EPOCHS * len(train_loader)
    for epoch in range(1, EPOCHS + 1):
        model.train()
        total = 0.0
        for (images,) in train_loader:
            step += 1
            beta = min(1.0, step / warm_steps)
            logits, mean, logvar = model(images)
            reconstruction, divergence = vae_loss(logits, images, mean, logvar)
            loss = reconstruction + beta * divergence
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        scheduler.step()
        reconstruction, divergence, squared = evaluate(model, valid_loader)
        print(
            f"epoch {epoch:2d} train {total / len(train_set):.2f} (beta {beta:.2f}) | valid reconstruction "
            f"{reconstruction:.2f} KL {divergence:.2f} explained variance {1 - squared / baseline:.3f}",
            flush=True,
        )

    model.eval()
    for image in model.sample(2):
        print(ascii_art(image[0]))


if __name__ == "__main__":
    main()
