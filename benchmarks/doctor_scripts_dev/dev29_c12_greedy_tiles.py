"""Greedy local learning on land-cover tiles: each block has its own head, loss and optimizer,
and no gradient crosses from one block to the block below (Belilovsky et al. 2019)."""
import torch
import torch.nn as nn
import torch.nn.functional as F

COVERS = ("water", "forest", "field", "town")
SIZE = 24
g = torch.Generator().manual_seed(77)


def blur(image, times):
    for _ in range(times):
        image = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return image


def tile(cover):
    noise = torch.randn(1, 1, SIZE, SIZE, generator=g)
    r = torch.rand(4, generator=g).tolist()
    y, x = torch.arange(SIZE).float()[:, None], torch.arange(SIZE).float()[None]
    if cover == 0:
        gray, tint = 0.30 + 0.2 * blur(noise, 4)[0, 0], (0.8, 1.0, 1.3)
    elif cover == 1:
        gray, tint = 0.35 + 0.35 * blur(noise, 1)[0, 0], (0.8, 1.1, 0.8)
    elif cover == 2:
        stripes = torch.sin((0.9 + 0.5 * r[0]) * (x * torch.tensor(6.28 * r[1]).cos() + y * torch.tensor(6.28 * r[1]).sin()))
        gray, tint = 0.45 + 0.15 * stripes, (1.0, 1.05, 0.8)
    else:
        gray, tint = torch.full((SIZE, SIZE), 0.4), (1.0, 1.0, 1.0)
        for _ in range(8):
            top, left, tall, wide = (torch.rand(4, generator=g) * torch.tensor([20, 20, 4, 4])).int().tolist()
            gray[top : top + 2 + tall, left : left + 2 + wide] = 0.7
    mixed = 1 + (torch.tensor(tint) - 1) * 0.4 * r[2]  # haze takes most of the color
    image = gray[None] * mixed[:, None, None] * (0.8 + 0.4 * r[3])
    return image + 0.04 * torch.randn(3, SIZE, SIZE, generator=g)


labels = torch.randint(0, 4, (2000,), generator=g)
images = torch.stack([tile(k) for k in labels.tolist()])
train_x, train_y, val_x, val_y = images[:1600], labels[:1600], images[1600:], labels[1600:]
mean, std = train_x.mean((0, 2, 3), keepdim=True), train_x.std((0, 2, 3), keepdim=True)
train_x, val_x = (train_x - mean) / std, (val_x - mean) / std


class LocalBlock(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * cout, 4))

    def forward(self, x):
        features = self.body(x.detach())
        return features, self.head(features)


torch.manual_seed(8)
blocks = nn.ModuleList([LocalBlock(3, 16), LocalBlock(16, 32), LocalBlock(32, 64)])
optimizers = [torch.optim.Adam(block.parameters(), lr=2e-3) for block in blocks]
schedulers = [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.85) for optimizer in optimizers]

for epoch in range(1, 17):
    blocks.train()
    sums = [0.0] * len(blocks)
    for index in torch.randperm(len(train_x)).split(32):
        h, y = train_x[index], train_y[index]
        for k, (block, optimizer) in enumerate(zip(blocks, optimizers)):
            h, logits = block(h)
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums[k] += loss.item() * len(y)
    for scheduler in schedulers:
        scheduler.step()

    blocks.eval()
    right = [0] * len(blocks)
    with torch.no_grad():
        for x, y in zip(val_x.split(100), val_y.split(100)):
            for k, block in enumerate(blocks):
                x, logits = block(x)
                right[k] += (logits.argmax(1) == y).sum().item()
    print(f"epoch {epoch:2d}  " + "  ".join(
        f"block {k}: loss {sums[k] / len(train_x):.3f} acc {right[k] / len(val_x):.3f}" for k in range(len(blocks))))
