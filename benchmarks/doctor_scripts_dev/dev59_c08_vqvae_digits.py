"""A VQ-VAE of digits, with samples from a prior that counts the codes of each place."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

MEAN, STD = 0.2, 0.33


class VectorQuantizer(nn.Module):
    def __init__(self, num_embeddings, embedding_dim, commitment_cost=0.25):
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.commitment_cost = commitment_cost
        self.weight = nn.Parameter(torch.randn(num_embeddings, embedding_dim))

    def lookup(self, indices):
        return F.embedding(indices, self.weight)

    def forward(self, inputs):
        # BCHW -> BHWC, one row a place
        channels_last = inputs.permute(0, 2, 3, 1)
        flat = channels_last.reshape(-1, self.embedding_dim)
        indices = torch.cdist(flat.detach(), self.weight.detach()).argmin(dim=1)
        quantized = self.lookup(indices).view(channels_last.shape).permute(0, 3, 1, 2)

        e_latent_loss = F.mse_loss(inputs, quantized.detach())
        q_latent_loss = F.mse_loss(quantized, inputs.detach())
        loss = q_latent_loss + self.commitment_cost * e_latent_loss

        # straight through: the decoder's gradient goes to the encoder as it is
        quantized = inputs + (quantized - inputs).detach()
        return quantized, loss, indices.view(channels_last.shape[:3])


class VQVAE(nn.Module):
    def __init__(self, hidden=32, num_embeddings=48, embedding_dim=8):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, hidden // 2, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden // 2, hidden, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, embedding_dim, 1),
            nn.BatchNorm2d(embedding_dim, affine=False),
        )
        self.quantizer = VectorQuantizer(num_embeddings, embedding_dim)
        self.decoder = nn.Sequential(
            nn.Conv2d(embedding_dim, hidden, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(hidden, hidden // 2, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(hidden // 2, 1, 4, stride=2, padding=1),
        )

    def forward(self, x):
        quantized, vq_loss, codes = self.quantizer(self.encoder(x))
        return self.decoder(quantized), vq_loss, codes

    @torch.no_grad()
    def decode(self, codes):
        return self.decoder(self.quantizer.lookup(codes).permute(0, 3, 1, 2))


def make_loader(count, seed, batch_size, shuffle):
    images, _ = draw_digits(count, seed=seed, noise=0.05, shift=1)
    images = (images.float() / 255 - MEAN) / STD
    return DataLoader(TensorDataset(images), batch_size=batch_size, shuffle=shuffle)


@torch.no_grad()
def evaluate(model, loader, num_embeddings):
    model.eval()
    error, pixels, histogram = 0.0, 0, torch.zeros(num_embeddings)
    for (x,) in loader:
        recon, _, codes = model(x)
        error += F.mse_loss(recon, x, reduction="sum").item()
        pixels += x.numel()
        histogram += torch.bincount(codes.flatten(), minlength=num_embeddings)
    probs = histogram / histogram.sum()
    perplexity = torch.exp(-(probs * (probs + 1e-10).log()).sum()).item()
    return error / pixels, perplexity


@torch.no_grad()
def sample(model, loader, num_embeddings, count=8):
    model.eval()
    codes = torch.cat([model(x)[2] for (x,) in loader])
    frequency = F.one_hot(codes, num_embeddings).float().mean(0)  # H, W, K
    h, w, k = frequency.shape
    drawn = torch.multinomial(frequency.view(h * w, k), count, replacement=True)
    return model.decode(drawn.t().reshape(count, h, w)) * STD + MEAN


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--n_epochs", type=int, default=10)
    parser.add_argument("--n_embeddings", type=int, default=48)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    args = parser.parse_args()

    torch.manual_seed(0)
    training_loader = make_loader(1200, 0, args.batch_size, shuffle=True)
    validation_loader = make_loader(300, 1, 100, shuffle=False)

    model = VQVAE(num_embeddings=args.n_embeddings)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate, amsgrad=True)

    for epoch in range(args.n_epochs):
        model.train()
        results = {"recon": [], "vq": []}
        for (x,) in training_loader:
            x_hat, vq_loss, _ = model(x)
            recon_loss = F.mse_loss(x_hat, x)
            loss = recon_loss + vq_loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            results["recon"].append(recon_loss.item())
            results["vq"].append(vq_loss.item())
        error, perplexity = evaluate(model, validation_loader, args.n_embeddings)
        n = len(results["recon"])
        print(
            f"epoch {epoch}: recon {sum(results['recon']) / n:.4f} vq {sum(results['vq']) / n:.4f}"
            f" | val mse {error:.4f} perplexity {perplexity:.1f}"
        )

    samples = sample(model, training_loader, args.n_embeddings)
    print("samples:", tuple(samples.shape), f"mean brightness {samples.mean().item():.3f}")


if __name__ == "__main__":
    main()
