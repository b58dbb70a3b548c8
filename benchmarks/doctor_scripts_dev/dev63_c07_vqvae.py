"""VQ-VAE on digits: images as maps of codes."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

hp = SimpleNamespace(
    batch_size=40,
    epochs=10,
    lr=3e-3,
    hidden=32,
    code_dim=16,
    n_codes=48,
    commitment=0.25,
    seed=11,
)


class ResBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.net = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x):
        return x + self.net(x)


class Encoder(nn.Module):
    def __init__(self, hidden, code_dim):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, hidden, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 4, stride=2, padding=1),
            ResBlock(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, code_dim, 1),
        )

    def forward(self, x):
        return self.net(x)


class Decoder(nn.Module):
    def __init__(self, hidden, code_dim):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(code_dim, hidden, 3, padding=1),
            ResBlock(hidden),
            nn.ReLU(),
            nn.ConvTranspose2d(hidden, hidden, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(hidden, 1, 4, stride=2, padding=1),
        )

    def forward(self, z):
        return self.net(z)


class VectorQuantizer(nn.Module):
    def __init__(self, n_codes, dim):
        super().__init__()
        self.codebook = nn.Embedding(n_codes, dim)

    @torch.no_grad()
    def init_from(self, z):
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        chosen = torch.randperm(len(flat))[: self.codebook.num_embeddings]
        self.codebook.weight.copy_(flat[chosen])

    def forward(self, z):
        b, c, h, w = z.shape
        flat = z.permute(0, 2, 3, 1).reshape(-1, c)
        weight = self.codebook.weight
        distance = flat.pow(2).sum(1, keepdim=True) - 2 * flat @ weight.t() + weight.pow(2).sum(1)
        codes = distance.argmin(dim=1)
        quantized = self.codebook(codes).view(b, h, w, c).permute(0, 3, 1, 2)
        codebook_loss = F.mse_loss(quantized, z.detach())
        commitment_loss = F.mse_loss(z, quantized.detach())
        quantized = z + (quantized - z).detach()
        return quantized, codebook_loss + hp.commitment * commitment_loss, codes.view(b, h, w)


class VQVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder(hp.hidden, hp.code_dim)
        self.quantizer = VectorQuantizer(hp.n_codes, hp.code_dim)
        self.decoder = Decoder(hp.hidden, hp.code_dim)

    def forward(self, x):
        quantized, vq_loss, codes = self.quantizer(self.encoder(x))
        return self.decoder(quantized), vq_loss, codes


def images_of(count, seed):
    images, _ = draw_digits(count, seed=seed, noise=0.03)
    return (images.float() / 255 - 0.15) / 0.33


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    error, count = 0.0, 0
    used = torch.zeros(hp.n_codes)
    for (x,) in loader:
        reconstruction, _, codes = model(x)
        error += F.mse_loss(reconstruction, x, reduction="sum").item()
        count += x.numel()
        used += torch.bincount(codes.flatten(), minlength=hp.n_codes)
    p = used / used.sum()
    perplexity = torch.exp(-(p * torch.log(p + 1e-10)).sum()).item()
    return error / count, perplexity


def main():
    torch.manual_seed(hp.seed)
    train_images, val_images = images_of(1200, seed=0), images_of(240, seed=1)
    train_loader = DataLoader(TensorDataset(train_images), batch_size=hp.batch_size, shuffle=True)
    val_loader = DataLoader(TensorDataset(val_images), batch_size=80)

    model = VQVAE()
    with torch.no_grad():
        model.quantizer.init_from(model.encoder(train_images[:100]))
    optimizer = torch.optim.Adam(model.parameters(), lr=hp.lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)
    print(f"variance of validation pixels {val_images.var().item():.3f}")
    for epoch in range(hp.epochs):
        model.train()
        total = 0.0
        for (x,) in train_loader:
            reconstruction, vq_loss, _ = model(x)
            loss = F.mse_loss(reconstruction, x) + vq_loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        scheduler.step()
        mse, perplexity = evaluate(model, val_loader)
        print(f"epoch {epoch}: loss {total / len(train_images):.4f}  val mse {mse:.4f}  perplexity {perplexity:.1f}")


if __name__ == "__main__":
    main()
