"""Contrastive learning of digits without labels; a vote of nearest neighbors tells how good the features are."""
import torch
import torch.nn.functional as F
from torch import nn

from toydata import draw_digits

torch.manual_seed(2)
torch.set_num_threads(1)


def views(images):
    """Small shifts, scales and shears, another contrast, noise: none of them turns one digit into another."""
    count = len(images)
    scale = 0.9 + 0.2 * torch.rand(count, 2)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = scale[:, 0], scale[:, 1]
    theta[:, 0, 1] = 0.2 * torch.rand(count) - 0.1
    theta[:, :, 2] = 0.5 * torch.rand(count, 2) - 0.25
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast = 0.8 + 0.4 * torch.rand(count, 1, 1, 1)
    return moved * contrast + 0.1 * torch.randn_like(moved)


def load(count, seed):
    images, labels = draw_digits(count, seed=seed, shift=1)
    return (images.float() / 255 - 0.2) / 0.35, labels


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()

        def layer(a, b, stride):
            return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())

        self.features = nn.Sequential(layer(1, 16, 1), layer(16, 32, 2), layer(32, 64, 2), nn.Flatten(), nn.Linear(1024, 64))
        self.projector = nn.Sequential(nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, x):
        return F.normalize(self.projector(self.features(x)), dim=1)


def nt_xent(first, second, temperature=0.2):
    both = torch.cat([first, second])
    similarity = both @ both.T / temperature
    itself = torch.eye(len(both), dtype=torch.bool)
    similarity = similarity.masked_fill(itself, float("-inf"))
    partner = torch.arange(len(both)).roll(len(first))
    return F.cross_entropy(similarity, partner)


@torch.no_grad()
def neighbor_vote(encoder, bank, bank_labels, queries, labels, k=10):
    """Labels are read here only, to judge the features."""
    encoder.eval()
    keys = F.normalize(torch.cat([encoder.features(part) for part in bank.split(256)]), dim=1)
    asked = F.normalize(torch.cat([encoder.features(part) for part in queries.split(256)]), dim=1)
    near, index = (asked @ keys.T).topk(k, dim=1)
    votes = torch.zeros(len(queries), 10).scatter_add_(1, bank_labels[index], (near / 0.1).exp())
    return (votes.argmax(1) == labels).float().mean().item()


images, labels = load(1408, seed=30)
valid_images, valid_labels = load(400, seed=31)
encoder = Encoder()
optimizer = torch.optim.AdamW(encoder.parameters(), lr=2e-3, weight_decay=1e-4)
epochs, batch = 32, 128
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(images) // batch))

for epoch in range(epochs):
    encoder.train()
    total = 0.0
    order = torch.randperm(len(images))
    for rows in order.split(batch):
        chosen = images[rows]
        # both views in one pass, so that batch norm treats them alike
        first, second = encoder(torch.cat([views(chosen), views(chosen)])).chunk(2)
        loss = nt_xent(first, second)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
    score = neighbor_vote(encoder, images, labels, valid_images, valid_labels)
    print(f"epoch {epoch:2d} contrastive loss {total / (len(images) // batch):.3f} neighbors right {score:.3f}")
