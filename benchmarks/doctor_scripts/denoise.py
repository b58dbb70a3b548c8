import torch
import torch.nn as nn
from torch.utils.data import DataLoader
from toydata import Digits

torch.manual_seed(0)
to_tensor = lambda image: image.float() / 255


def add_noise(images, strength=0.4):
    return (images + strength * torch.randn_like(images)).clamp(0.0, 1.0)


class ConvDenoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 2, stride=2), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1), nn.Sigmoid()
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


train_loader = DataLoader(Digits(train=True, transform=to_tensor), batch_size=32, shuffle=True)
test_loader = DataLoader(Digits(train=False, transform=to_tensor), batch_size=50)
model = ConvDenoiser()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for epoch in range(1, 5):
    train_loss = 0.0
    model.train()
    for images, _ in train_loader:
        noisy_imgs = add_noise(images)
        optimizer.zero_grad()
        outputs = model(noisy_imgs)
        loss = criterion(outputs, images)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * images.size(0)
    model.eval()
    with torch.no_grad():
        errors = [((model(add_noise(images)) - images) ** 2).mean(dim=(1, 2, 3)) for images, _ in test_loader]
    psnr = -10 * torch.log10(torch.cat(errors)).mean()
    print(f"Epoch: {epoch} Training Loss: {train_loss / len(train_loader.dataset):.6f} PSNR {psnr:.2f} dB")
