"""A convolutional denoising autoencoder of digits; noise is added to the input in training, validation noise is fixed."""

import tempfile

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import Digits


def to_float(image):
    return image.float().div(255)


class Encoder(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 4, stride=2, padding=1)
        self.project = nn.Linear(32 * 16, latent)

    def forward(self, x):
        x = F.gelu(self.conv1(x))
        x = F.gelu(self.conv2(x))
        return self.project(x.flatten(1))


class Decoder(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.expand = nn.Linear(latent, 32 * 16)
        self.deconv1 = nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1)

    def forward(self, z):
        x = F.gelu(self.expand(z)).unflatten(1, (32, 4, 4))
        x = F.gelu(self.deconv1(x))
        return self.deconv2(x)


class DenoisingAutoencoder(nn.Module):
    def __init__(self, latent=40):
        super().__init__()
        self.encoder, self.decoder = Encoder(latent), Decoder(latent)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def train_one_epoch(model, loader, optimizer, scheduler, strength):
    model.train()
    squared, pixels = torch.zeros(()), 0
    for clean, _ in loader:
        noisy = clean + strength * torch.randn_like(clean)
        restored = model(noisy)
        loss = F.mse_loss(restored, clean)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        squared += loss.detach() * clean.numel()
        pixels += clean.numel()
    return squared.item() / pixels


@torch.no_grad()
def validate(model, loader, noise):
    """Error of what is restored, of the noisy input as it is, and of the mean picture."""
    model.eval()
    clean = torch.cat([images for images, _ in loader])
    noisy = clean + noise
    restored = torch.cat([model(part) for part in noisy.split(100)])
    return (
        F.mse_loss(restored, clean).item(),
        F.mse_loss(noisy, clean).item(),
        clean.var(dim=0, unbiased=False).mean().item(),
    )


def main():
    torch.manual_seed(99)
    strength, epochs = 0.3, 14
    # little noise of their own: what is to be restored is nearly clean
    train_set = Digits(train=True, count=3000, transform=to_float, noise=0.02)
    val_set = Digits(train=False, count=400, transform=to_float, noise=0.02)
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100)
    val_noise = strength * torch.randn(400, 1, 16, 16, generator=torch.Generator().manual_seed(5))

    model = DenoisingAutoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * len(train_loader))
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        lowest = float("inf")
        for epoch in range(epochs):
            train_error = train_one_epoch(model, train_loader, optimizer, scheduler, strength)
            val_error, unrestored, spread = validate(model, val_loader, val_noise)
            print(
                f"{epoch + 1:2d}: train mse {train_error:.5f}  val mse {val_error:.5f}  "
                f"(noisy input {unrestored:.5f}, mean picture {spread:.5f})"
            )
            if val_error < lowest:
                lowest = val_error
                torch.save(model.state_dict(), file.name)
        model.load_state_dict(torch.load(file.name, weights_only=True))
    print(f"restored {validate(model, val_loader, val_noise)[0]:.5f}")


if __name__ == "__main__":
    main()
