"""Handwritten digits of scikit-learn, 30 of each for training, with heavy augmentation of whole batches."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 17
torch.manual_seed(SEED)
torch.set_num_threads(1)

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images, digits.target, train_size=300, test_size=500, stratify=digits.target, random_state=SEED
)


def prepare(images):
    """8 x 8 of 0 to 16 become 16 x 16 of 0 to 1."""
    images = torch.tensor(images, dtype=torch.float32).unsqueeze(1) / 16
    return F.interpolate(images, size=16, mode="bilinear", align_corners=False)


X_train, X_test = prepare(X_train), prepare(X_test)
y_train, y_test = torch.tensor(y_train), torch.tensor(y_test)
MEAN, STD = X_train.mean().item(), X_train.std().item()


def random_affine(images, degrees=12, translate=0.1, scale=0.12, shear=0.15):
    n = len(images)
    u = lambda limit: (2 * torch.rand(n) - 1) * limit  # noqa: E731
    angle, size, slant = u(degrees) * math.pi / 180, 1 + u(scale), u(shear)
    cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
    theta = torch.stack(
        [
            torch.stack([cos, slant - sin, u(2 * translate)], dim=1),
            torch.stack([sin, cos, u(2 * translate)], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def random_erase(images, size=4, p=0.3):
    images = images.clone()
    for i in (torch.rand(len(images)) < p).nonzero().flatten().tolist():
        top, left = torch.randint(0, images.shape[-1] - size + 1, (2,)).tolist()
        images[i, :, top : top + size, left : left + size] = torch.rand(())
    return images


def augment(images):
    images = random_affine(images)
    images = images * (0.8 + 0.4 * torch.rand(len(images), 1, 1, 1))
    images = images + 0.05 * torch.randn_like(images)
    return random_erase(images)


def normalize(images):
    return (images - MEAN) / STD


class ConvNet(nn.Module):
    def __init__(self, width=24):
        super().__init__()

        def block(inp, out):
            return nn.Sequential(nn.Conv2d(inp, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(0.1))

        self.body = nn.Sequential(
            block(1, width), block(width, width), nn.MaxPool2d(2),
            block(width, 2 * width), nn.MaxPool2d(2), nn.Dropout2d(0.1),
            nn.Flatten(),
        )
        self.fc = nn.Linear(2 * width * 16, 10)

    def forward(self, x):
        return self.fc(self.body(x))


net = ConvNet()
EPOCHS, BATCH = 50, 30
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

for epoch in range(1, EPOCHS + 1):
    net.train()
    order = torch.randperm(len(X_train))
    train_loss = train_hits = 0
    for index in order.split(BATCH):
        images, labels = normalize(augment(X_train[index])), y_train[index]
        logits = net(images)
        loss = criterion(logits, labels)
        net.zero_grad()
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * len(index)
        train_hits += (logits.argmax(1) == labels).sum().item()
    scheduler.step()

    net.eval()
    with torch.inference_mode():
        test_hits = sum(
            (net(normalize(x)).argmax(1) == y).sum().item() for x, y in zip(X_test.split(100), y_test.split(100))
        )
    print(
        f"epoch {epoch:2d} loss {train_loss / len(X_train):.3f} "
        f"train acc (augmented) {train_hits / len(X_train):.3f} test acc {test_hits / len(X_test):.3f}"
    )
