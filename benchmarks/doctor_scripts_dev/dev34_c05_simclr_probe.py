# %% [markdown]
# # SimCLR on digits, a linear probe with few labels, then fine-tuning
# Few labels, many images: first learn features without labels, then put a linear layer on them.

# %%
import os
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from toydata import draw_digits

torch.manual_seed(5)
torch.set_num_threads(1)

# %% data: 2400 images without labels, 600 with, 400 to validate
normalize = lambda images: (images.float() / 255 - 0.2) / 0.32
unlabeled = normalize(draw_digits(2400, seed=0, shift=1)[0])
train_x, train_y = draw_digits(600, seed=1, shift=1)
val_x, val_y = draw_digits(400, seed=2, shift=1)
train_x, val_x = normalize(train_x), normalize(val_x)


# %% augmentation of a whole batch
def augment(x):
    n, _, height, width = x.shape
    dy, dx = torch.randint(-2, 3, (2, n))
    rows = (torch.arange(height) + dy[:, None]) % height
    columns = (torch.arange(width) + dx[:, None]) % width
    x = x[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)
    x = x * (0.8 + 0.4 * torch.rand(n, 1, 1, 1))
    return x + 0.3 * torch.randn_like(x)


# %% encoder and projector
encoder = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
    nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(32 * 4 * 4, 128), nn.ReLU(),
)
projector = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64))


def nt_xent(a, b, temperature=0.2):
    z = F.normalize(torch.cat([a, b]), dim=1)
    n = len(z)
    similarity = z @ z.t() / temperature
    similarity = similarity.masked_fill(torch.eye(n, dtype=torch.bool), -1e9)
    partners = (torch.arange(n) + n // 2) % n
    return F.cross_entropy(similarity, partners), (similarity.argmax(1) == partners).float().mean()


# %% 1. pretraining without labels
epochs, batch_size = 22, 128
optimizer = torch.optim.Adam([*encoder.parameters(), *projector.parameters()], lr=1e-3)
for epoch in range(epochs):
    encoder.train(), projector.train()
    total, found, steps = 0.0, 0.0, 0
    for index in torch.randperm(len(unlabeled)).split(batch_size):
        if len(index) < batch_size:  # the last, short batch
            continue
        x = unlabeled[index]
        z = projector(encoder(torch.cat([augment(x), augment(x)])))
        loss, hits = nt_xent(*z.chunk(2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, found, steps = total + loss.item(), found + hits.item(), steps + 1
    print(f"pretrain {epoch:2d}  nt-xent {total / steps:.4f}  partner found {found / steps:.3f}")


# %% 2. linear probe: the encoder is frozen and in evaluation mode, its features are computed once
def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


encoder.requires_grad_(False)
encoder.eval()
with torch.no_grad():
    train_features, val_features = encoder(train_x), encoder(val_x)
head = nn.Linear(128, 10)
optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
for epoch in range(12):
    head.train()
    for index in torch.randperm(len(train_x)).split(50):
        loss = F.cross_entropy(head(train_features[index]), train_y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"probe {epoch:2d}  val acc {accuracy(head, val_features, val_y):.3f}")

# %% 3. unfreeze; the deeper the layer, the smaller the rate
encoder.requires_grad_(True)
classifier = nn.Sequential(encoder, head)
optimizer = torch.optim.AdamW(
    [
        {"params": encoder[:7].parameters(), "lr": 1e-4},
        {"params": encoder[7:].parameters(), "lr": 3e-4},
        {"params": head.parameters(), "lr": 1e-3},
    ],
    weight_decay=0.01,
)
for epoch in range(10):
    classifier.train()
    total = 0.0
    for index in torch.randperm(len(train_x)).split(50):
        loss = F.cross_entropy(classifier(augment(train_x[index])), train_y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(index)
    print(f"finetune {epoch:2d}  loss {total / len(train_x):.4f}  val acc {accuracy(classifier, val_x, val_y):.3f}")
