"""Variational autoencoder of digits: Bernoulli pixels, Gaussian code, the divergence weighed in step by step."""
import torch
import torch.nn as nn
import torch.nn.functional as F

import toydata


class Encoder(nn.Module):
    def __init__(self, z_dim):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 4, stride=2, padding=1)
        self.hidden = nn.Linear(32 * 4 * 4, 128)
        self.to_mu = nn.Linear(128, z_dim)
        self.to_logvar = nn.Linear(128, z_dim)

    def forward(self, x):
        h = F.relu(self.conv1(2 * x - 0.5))
        h = F.relu(self.conv2(h))
        h = F.relu(self.hidden(h.flatten(1)))
        return self.to_mu(h), self.to_logvar(h)


class Decoder(nn.Module):
    def __init__(self, z_dim):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(z_dim, 128),
            nn.ReLU(),
            nn.Linear(128, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
        )

    def forward(self, z):
        return self.layers(z).view(-1, 1, 16, 16)


class VAE(nn.Module):
    def __init__(self, z_dim=12):
        super().__init__()
        self.encoder = Encoder(z_dim)
        self.decoder = Decoder(z_dim)

    def forward(self, x):
        mu, logvar = self.encoder(x)
        z = mu
        if self.training:
            z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.decoder(z), mu, logvar


def negative_elbo(logits, x, mu, logvar, beta):
    nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=(1, 2, 3))
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(dim=1)
    return (nll + beta * kl).mean(), nll.mean(), kl.mean()


def load(train):
    images, _ = toydata.draw_digits(1200 if train else 300, size=16, seed=0 if train else 1, noise=0.05, shift=1)
    return images.float() / 255


def run_epoch(model, images, optimizer, epoch, batch_size=50):
    model.train()
    order = torch.randperm(len(images))
    sums = torch.zeros(3)
    batches = order.split(batch_size)
    for number, index in enumerate(batches):
        x = images[index]
        beta = min(1.0, (epoch * len(batches) + number + 1) / 150)
        logits, mu, logvar = model(x)
        loss, nll, kl = negative_elbo(logits, x, mu, logvar, beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sums += torch.stack([loss, nll, kl]).detach() * len(index)
    return (sums / len(images)).tolist()


@torch.no_grad()
def evaluate(model, images, mean_image):
    model.eval()
    logits, mu, logvar = model(images)
    loss, _, _ = negative_elbo(logits, images, mu, logvar, 1.0)
    error = (torch.sigmoid(logits) - images).pow(2).mean()
    baseline = (mean_image - images).pow(2).mean()
    return loss.item(), (1 - error / baseline).item()


@torch.no_grad()
def show_sample(model, z_dim=12):
    model.eval()
    picture = torch.sigmoid(model.decoder(torch.randn(1, z_dim)))[0, 0]
    for row in picture:
        print("".join(" .:*#"[int(value * 4.99)] for value in row.tolist()))


def main():
    torch.manual_seed(21)
    train_images, val_images = load(True), load(False)
    mean_image = train_images.mean(dim=0)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(16):
        loss, nll, kl = run_epoch(model, train_images, optimizer, epoch)
        val_loss, explained = evaluate(model, val_images, mean_image)
        print(f"epoch {epoch + 1:2d} loss {loss:.2f} nll {nll:.2f} kl {kl:.2f} | val {val_loss:.2f} explained {explained:.3f}")
    show_sample(model)


if __name__ == "__main__":
    main()
