# Denoising autoencoder: clean digits from noisy ones. Course notebook, exercise 4.
import math

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(42)
NOISE = 0.4
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

train_images = draw_digits(1800, seed=0, noise=0.0)[0].float() / 255
val_images = draw_digits(300, seed=1, noise=0.0)[0].float() / 255

# the noise of validation is drawn once, so that epochs can be compared
val_noisy = val_images + NOISE * torch.randn(val_images.shape, generator=torch.Generator().manual_seed(5))

train_loader = DataLoader(TensorDataset(train_images), batch_size=40, shuffle=True)
val_loader = DataLoader(TensorDataset(val_noisy, val_images), batch_size=100)


class DenoisingAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 64),
            nn.LeakyReLU(0.1),
        )
        self.decoder = nn.Sequential(
            nn.Linear(64, 32 * 4 * 4),
            nn.LeakyReLU(0.1),
            nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


model = DenoisingAutoencoder().to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.4)
criterion = nn.MSELoss()


def validate():
    model.eval()
    error = 0.0
    with torch.no_grad():
        for noisy, clean in val_loader:
            noisy, clean = noisy.to(device), clean.to(device)
            error += criterion(model(noisy), clean).item() * len(clean)
    return error / len(val_images)


baseline = criterion(val_noisy, val_images).item()
print(f"noisy images: mse {baseline:.4f}  psnr {-10 * math.log10(baseline):.1f} dB")

for epoch in range(24):
    model.train()
    total = 0.0
    for (clean,) in train_loader:
        clean = clean.to(device)
        noisy = clean + NOISE * torch.randn_like(clean)
        loss = criterion(model(noisy), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(clean)
    scheduler.step()
    mse = validate()
    print(
        f"epoch {epoch + 1:2d}  train mse {total / len(train_images):.4f}"
        f"  val mse {mse:.4f}  psnr {-10 * math.log10(mse):.1f} dB"
    )
