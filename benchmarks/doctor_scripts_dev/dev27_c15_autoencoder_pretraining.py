"""Denoising autoencoder on many unlabeled digits, then a classifier on few labeled ones: head first, then everything."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import draw_digits

torch.manual_seed(23)


class Encoder(nn.Module):
    def __init__(self, code=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 16, code))

    def forward(self, x):
        return self.net(x)


class Decoder(nn.Module):
    def __init__(self, code=32):
        super().__init__()
        self.fc = nn.Linear(code, 32 * 16)
        self.net = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1), nn.Sigmoid())

    def forward(self, z):
        return self.net(F.relu(self.fc(z)).view(-1, 32, 4, 4))


def batches(n, size):
    return torch.randperm(n).split(size)


def pretrain(encoder, decoder, images, held_out, epochs=20, lr=2e-3):
    opt = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=lr)
    for epoch in range(epochs):
        encoder.train(), decoder.train()
        total = 0.0
        for idx in batches(len(images), 50):
            clean = images[idx]
            noisy = (clean + 0.2 * torch.randn_like(clean)).clamp(0, 1)
            loss = F.mse_loss(decoder(encoder(noisy)), clean)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item() * len(idx)
        encoder.eval(), decoder.eval()
        with torch.no_grad():
            error = F.mse_loss(decoder(encoder(held_out)), held_out).item()
        print(f"pretrain {epoch:2d} train mse {total / len(images):.4f} held-out mse {error:.4f} (variance {held_out.var():.4f})")


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def finetune(model, params, x, y, x_val, y_val, epochs, name):
    opt = torch.optim.Adam(params)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for idx in batches(len(x), 20):
            loss = F.cross_entropy(model(x[idx]), y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item() * len(idx)
        print(f"{name} {epoch:2d} loss {total / len(x):.4f} val acc {accuracy(model, x_val, y_val):.4f}")


if __name__ == "__main__":
    images, labels = draw_digits(2000, seed=80)
    x_val, y_val = draw_digits(400, seed=81)
    images, x_val = images.float() / 255, x_val.float() / 255
    x_few, y_few = images[:500], labels[:500]

    encoder, decoder = Encoder(), Decoder()
    pretrain(encoder, decoder, images, x_val)

    head = nn.Sequential(nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10))
    model = nn.Sequential(encoder, head)
    for p in encoder.parameters():
        p.requires_grad = False
    finetune(model, [{"params": head.parameters(), "lr": 1e-2}], x_few, y_few, x_val, y_val, 6, "head")
    for p in encoder.parameters():
        p.requires_grad = True
    groups = [{"params": encoder.parameters(), "lr": 1e-3}, {"params": head.parameters(), "lr": 2e-3}]
    finetune(model, groups, x_few, y_few, x_val, y_val, 20, "all")
