"""VQ-VAE of digits; the codebook isn't a parameter: it follows the encoder by moving averages."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class Codebook(nn.Module):
    def __init__(self, codes=64, width=16, decay=0.95):
        super().__init__()
        self.decay = decay
        self.register_buffer("codes", torch.randn(codes, width))
        self.register_buffer("uses", torch.ones(codes))
        self.register_buffer("sums", torch.randn(codes, width))
        self.register_buffer("begun", torch.tensor(False))

    @torch.no_grad()
    def begin(self, rows):
        self.codes.copy_(rows[torch.randperm(len(rows))[: len(self.codes)]])
        self.sums.copy_(self.codes)
        self.uses.fill_(1.0)
        self.begun.fill_(True)

    @torch.no_grad()
    def follow(self, rows, index):
        chosen = F.one_hot(index, len(self.codes)).type_as(rows)
        self.uses.lerp_(chosen.sum(0), 1 - self.decay)
        self.sums.lerp_(chosen.T @ rows, 1 - self.decay)
        unused = self.uses < 0.3
        if unused.any():  # codes that nobody uses begin anew at an output of the encoder
            picks = rows[torch.randint(len(rows), (int(unused.sum()),))]
            self.sums[unused], self.uses[unused] = picks, 1.0
        self.codes.copy_(self.sums / self.uses.unsqueeze(1))

    def forward(self, z):
        rows = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        if self.training and not self.begun:
            self.begin(rows.detach())
        index = torch.cdist(rows.detach(), self.codes).argmin(1)
        nearest = self.codes[index].view(z.shape[0], z.shape[2], z.shape[3], -1).permute(0, 3, 1, 2)
        if self.training:
            self.follow(rows.detach(), index)
        commitment = F.mse_loss(z, nearest)
        return z + (nearest - z).detach(), commitment, index


class VQVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 48, 4, 2, 1), nn.ReLU(), nn.Conv2d(48, 16, 1)
        )
        self.codebook = Codebook()
        self.decoder = nn.Sequential(
            nn.Conv2d(16, 48, 3, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(48, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1),
        )

    def forward(self, x):
        quantized, commitment, index = self.codebook(self.encoder(x))
        return self.decoder(quantized), commitment, index


def loader(count, seed, train):
    images, _ = draw_digits(count, seed=seed, noise=0.03)
    return DataLoader(TensorDataset((images.float() / 255 - 0.2) / 0.35), batch_size=48, shuffle=train)


def evaluate(model, batches):
    model.eval()
    error, everything = 0.0, batches.dataset.tensors[0]
    spread = (everything - everything.mean()).pow(2).sum().item()
    used = torch.zeros(64)
    with torch.no_grad():
        for (images,) in batches:
            output, _, index = model(images)
            error += (output - images).pow(2).sum().item()
            used += torch.bincount(index, minlength=64)
    share = used / used.sum()
    perplexity = torch.exp(-(share * (share + 1e-9).log()).sum()).item()
    return 1 - error / spread, perplexity


def main():
    torch.manual_seed(9)
    torch.set_num_threads(1)
    train_batches, valid_batches = loader(1200, 40, True), loader(300, 41, False)
    model = VQVAE()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.94)
    for epoch in range(28):
        model.train()
        total = 0.0
        for (images,) in train_batches:
            output, commitment, _ = model(images)
            loss = F.mse_loss(output, images) + 0.25 * commitment
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        scheduler.step()
        explained, perplexity = evaluate(model, valid_batches)
        print(f"epoch {epoch:2d} loss {total / 1200:.4f} variance explained {explained:.4f} codes in use {perplexity:.1f}")


if __name__ == "__main__":
    main()
