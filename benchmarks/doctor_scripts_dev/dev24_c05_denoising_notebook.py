# %% [markdown]
# # Denoising autoencoder
# The network gets a noisy digit and has to give back the clean one.

# %%
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
NOISE = 0.3
num_epochs = 25
batch_size = 64

# %%
train_images, _ = draw_digits(3000, size=20, seed=0, noise=0.03, shift=4)
val_images, _ = draw_digits(400, size=20, seed=1, noise=0.03, shift=4)
test_images, _ = draw_digits(400, size=20, seed=2, noise=0.03, shift=4)

train_x = train_images.float() / 255
val_x = val_images.float() / 255
test_x = test_images.float() / 255


def add_noise(images, generator=None):
    noise = torch.randn(images.shape, generator=generator)
    return (images + NOISE * noise.to(images.device)).clamp(0, 1)


# the noise of validation and test is drawn once, so that epochs can be compared
val_noisy = add_noise(val_x, torch.Generator().manual_seed(101))
test_noisy = add_noise(test_x, torch.Generator().manual_seed(102))

train_loader = DataLoader(TensorDataset(train_x), batch_size=batch_size, shuffle=True)
val_loader = DataLoader(TensorDataset(val_noisy, val_x), batch_size=200)
test_loader = DataLoader(TensorDataset(test_noisy, test_x), batch_size=200)


# %%
class DenoisingAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=2, padding=1),  # 20 -> 10
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),  # 10 -> 5
            nn.ReLU(),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(64, 32, 2, stride=2),  # 5 -> 10
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 2, stride=2),  # 10 -> 20
            nn.ReLU(),
            nn.Conv2d(16, 1, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


model = DenoisingAutoencoder().to(device)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)


# %%
def psnr(outputs, targets):
    """Peak signal-to-noise ratio of each image, in dB."""
    mse = ((outputs - targets) ** 2).flatten(1).mean(1)
    return 10 * torch.log10(1.0 / mse)


def evaluate(loader):
    model.eval()
    loss_sum, psnr_sum, n = 0.0, 0.0, 0
    with torch.no_grad():
        for noisy, clean in loader:
            noisy, clean = noisy.to(device), clean.to(device)
            out = model(noisy)
            loss_sum += criterion(out, clean).item() * clean.size(0)
            psnr_sum += psnr(out, clean).sum().item()
            n += clean.size(0)
    return loss_sum / n, psnr_sum / n


print(f"PSNR of the noisy validation images: {psnr(val_noisy, val_x).mean().item():.2f} dB")

# %%
train_losses, val_losses, val_psnrs = [], [], []
for epoch in range(num_epochs):
    model.train()
    running_loss = 0.0
    for (clean,) in train_loader:
        clean = clean.to(device)
        noisy = add_noise(clean)

        outputs = model(noisy)
        loss = criterion(outputs, clean)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running_loss += loss.item() * clean.size(0)
    scheduler.step()

    train_losses.append(running_loss / len(train_x))
    val_loss, val_psnr = evaluate(val_loader)
    val_losses.append(val_loss)
    val_psnrs.append(val_psnr)
    print(f"Epoch [{epoch + 1}/{num_epochs}], train loss: {train_losses[-1]:.5f}, "
          f"val loss: {val_loss:.5f}, val PSNR: {val_psnr:.2f} dB")

# %%
test_loss, test_psnr = evaluate(test_loader)
print(f"Test loss: {test_loss:.5f}, test PSNR: {test_psnr:.2f} dB "
      f"(noisy images: {psnr(test_noisy, test_x).mean().item():.2f} dB)")
