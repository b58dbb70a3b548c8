"""Supervised contrastive learning of digits, after the SupContrast repository; judged by nearest neighbors."""

import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from toydata import Digits

def parse_option():
    parser = argparse.ArgumentParser("argument for training")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--lr_decay_rate", type=float, default=0.1)
    parser.add_argument("--weight_decay", type=float, default=1e-4)
    parser.add_argument("--temp", type=float, default=0.1)
    parser.add_argument("--feat_dim", type=int, default=32)
    parser.add_argument("--knn", type=int, default=5)
    parser.add_argument("--noise", type=float, default=12.0, help="of gray values from 0 to 255")
    return parser.parse_args()

class Compose:
    def __init__(self, *transforms):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image

class RandomShift:
    def __init__(self, pixels):
        self.pixels = pixels

    def __call__(self, image):
        shifts = torch.randint(-self.pixels, self.pixels + 1, (2,)).tolist()
        return image.roll(shifts, dims=(-2, -1))

class GaussianNoise:
    def __init__(self, sigma):
        self.sigma = sigma

    def __call__(self, image):
        return image + self.sigma * torch.randn(image.shape)

class ToTensor:
    def __call__(self, image):
        return image / 255.0

class Normalize:
    def __call__(self, image):
        return (image - 0.2) / 0.3

class TwoCropTransform:
    """Create two crops of the same image"""

    def __init__(self, transform):
        self.transform = transform

    def __call__(self, x):
        return [self.transform(x), self.transform(x)]

class SupConNet(nn.Module):
    def __init__(self, feat_dim):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Flatten(), nn.Linear(64 * 16, 64), nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, feat_dim))

    def forward(self, x):
        return F.normalize(self.head(self.encoder(x)), dim=1)

class SupConLoss(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, features, labels):
        mask = torch.eq(labels[:, None], labels[None, :]).float()
        logits = features @ features.T / self.temperature
        logits = logits - logits.max(dim=1, keepdim=True).values.detach()
        # mask out self-contrast cases
        logits_mask = 1 - torch.eye(len(labels))
        mask = mask * logits_mask
        exp_logits = torch.exp(logits) * logits_mask
        log_prob = logits - torch.log(exp_logits.sum(1, keepdim=True))
        mean_log_prob_pos = (mask * log_prob).sum(1) / mask.sum(1).clamp(min=1)
        return -mean_log_prob_pos.mean()

def set_loader(opt):
    augment = Compose(RandomShift(1), GaussianNoise(opt.noise), ToTensor(), Normalize())
    plain = Compose(ToTensor(), Normalize())
    train_set = Digits(train=True, count=800, transform=TwoCropTransform(augment))
    bank_set = Digits(train=True, count=800, transform=plain)
    val_set = Digits(train=False, count=250, transform=plain)
    train_loader = DataLoader(train_set, batch_size=opt.batch_size, shuffle=True, drop_last=True)
    return train_loader, DataLoader(bank_set, batch_size=200), DataLoader(val_set, batch_size=125)

def adjust_learning_rate(opt, optimizer, epoch):
    eta_min = opt.learning_rate * opt.lr_decay_rate
    lr = eta_min + (opt.learning_rate - eta_min) * (1 + math.cos(math.pi * epoch / opt.epochs)) / 2
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr

def train(train_loader, model, criterion, optimizer):
    model.train()
    losses = []
    for images, labels in train_loader:
        images = torch.cat([images[0], images[1]], dim=0)
        features = model(images)
        loss = criterion(features, labels.repeat(2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)

@torch.no_grad()
def extract(loader, model):
    model.eval()
    pairs = [(model(images), labels) for images, labels in loader]
    return torch.cat([f for f, _ in pairs]), torch.cat([l for _, l in pairs])

def validate(bank_loader, val_loader, model, k):
    bank, bank_labels = extract(bank_loader, model)
    features, labels = extract(val_loader, model)
    nearest = (features @ bank.T).topk(k, dim=1).indices
    votes = F.one_hot(bank_labels[nearest], 10).sum(1)
    return (votes.argmax(1) == labels).float().mean().item()

def main():
    opt = parse_option()
    torch.manual_seed(0)
    train_loader, bank_loader, val_loader = set_loader(opt)
    model = SupConNet(opt.feat_dim)
    criterion = SupConLoss(opt.temp)
    optimizer = torch.optim.AdamW(model.parameters(), lr=opt.learning_rate, weight_decay=opt.weight_decay)
    best_acc = 0.0
    for epoch in range(opt.epochs):
        adjust_learning_rate(opt, optimizer, epoch)
        loss = train(train_loader, model, criterion, optimizer)
        acc = validate(bank_loader, val_loader, model, opt.knn)
        best_acc = max(acc, best_acc)
        print(f"epoch {epoch + 1}, loss {loss:.3f}, kNN accuracy {100 * acc:.2f}")
    print(f"best accuracy: {100 * best_acc:.2f}")

if __name__ == "__main__":
    main()
