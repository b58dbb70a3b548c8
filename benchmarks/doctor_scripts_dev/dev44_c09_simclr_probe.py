"""SimCLR on digits without labels, then a linear probe on frozen features (fitted by LBFGS)."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import draw_digits

torch.manual_seed(0)
EPOCHS, BATCH, TEMPERATURE, BASE_LR = 14, 100, 0.2, 2e-3

train_images, train_labels = draw_digits(1200, seed=0)
test_images, test_labels = draw_digits(300, seed=1)
mean, std = (train_images / 255).mean(), (train_images / 255).std()
train_images = (train_images / 255 - mean) / std
test_images = (test_images / 255 - mean) / std


def augment(batch):
    """Each image for itself: moved by up to two pixels, contrast, a patch hidden, noise."""
    n, _, h, w = batch.shape
    padded = F.pad(batch, (2, 2, 2, 2), mode="replicate")
    top, left = torch.randint(0, 5, (n,)), torch.randint(0, 5, (n,))
    rows = top[:, None, None] + torch.arange(h)[None, :, None]
    columns = left[:, None, None] + torch.arange(w)[None, None, :]
    out = padded[torch.arange(n)[:, None, None], 0, rows, columns].unsqueeze(1)
    out = out * (0.7 + 0.6 * torch.rand(n, 1, 1, 1))
    y, x = torch.randint(0, h - 3, (n, 1, 1)), torch.randint(0, w - 3, (n, 1, 1))
    row, column = torch.arange(h)[None, :, None], torch.arange(w)[None, None, :]
    hidden = (row >= y) & (row < y + 4) & (column >= x) & (column < x + 4)
    out = out.masked_fill(hidden.unsqueeze(1), 0.0)
    return out + 0.2 * torch.randn_like(out)


class Encoder(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 128), nn.ReLU(),
        )

    def forward(self, x):
        return self.net(x)


encoder = Encoder()
projector = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 48))


def nt_xent(z1, z2):
    n = len(z1)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    similarity = z @ z.T / TEMPERATURE
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool), float("-inf"))
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(similarity, partner)


steps_per_epoch = len(train_images) // BATCH
optimizer = torch.optim.AdamW([*encoder.parameters(), *projector.parameters()], lr=BASE_LR, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer,
    lambda s: min(1.0, (s + 1) / 10) * 0.5 * (1 + math.cos(math.pi * s / (EPOCHS * steps_per_epoch))),
)

for epoch in range(EPOCHS):
    encoder.train()
    projector.train()
    order = torch.randperm(len(train_images))
    total = torch.zeros(())
    for chunk in order.split(BATCH):
        batch = train_images[chunk]
        z1 = projector(encoder(augment(batch)))
        z2 = projector(encoder(augment(batch)))
        loss = nt_xent(z1, z2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.detach()
    print(f"pretraining epoch {epoch + 1}: loss {total.item() / steps_per_epoch:.4f}")

# ---- linear probe -------------------------------------------------------------------------------
encoder.requires_grad_(False)
encoder.eval()
with torch.no_grad():
    features, test_features = encoder(train_images), encoder(test_images)
center, spread = features.mean(0), features.std(0) + 1e-3
features, test_features = (features - center) / spread, (test_features - center) / spread

probe = nn.Linear(128, 10)
nn.init.zeros_(probe.weight)
nn.init.zeros_(probe.bias)
solver = torch.optim.LBFGS(probe.parameters(), lr=1.0, max_iter=100, line_search_fn="strong_wolfe")


def closure():
    solver.zero_grad()
    objective = F.cross_entropy(probe(features), train_labels) + 1e-2 * probe.weight.square().sum() / 2
    objective.backward()
    return objective


solver.step(closure)
with torch.no_grad():
    train_accuracy = (probe(features).argmax(1) == train_labels).float().mean().item()
    test_accuracy = (probe(test_features).argmax(1) == test_labels).float().mean().item()
print(f"linear probe: train {train_accuracy:.3f}  test {test_accuracy:.3f}")
