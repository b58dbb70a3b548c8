"""Supervised contrastive pretraining, then a linear classifier on the fixed encoder."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits


def parse_option():
    parser = argparse.ArgumentParser("argument for training")
    parser.add_argument("--batch_size", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--linear_epochs", type=int, default=8)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--linear_rate", type=float, default=1e-2)
    parser.add_argument("--temp", type=float, default=0.1, help="temperature for loss function")
    return parser.parse_args()


class TwoCropTransform:
    """Create two crops of the same image"""

    def __init__(self, transform):
        self.transform = transform

    def __call__(self, x):
        return [self.transform(x), self.transform(x)]


class Plain:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, x):
        return (x.float() / 255 - self.mean) / self.std


class Augment(Plain):
    def __call__(self, x):
        x = F.pad(x.float() / 255, (1, 1, 1, 1))
        top, left = torch.randint(0, 3, (2,)).tolist()
        x = x[:, top : top + 16, left : left + 16] * (0.8 + 0.4 * torch.rand(()))
        return (x + 0.05 * torch.randn(x.shape) - self.mean) / self.std


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layers = []
        for cin, cout, stride in [(1, 16, 1), (16, 32, 2), (32, 64, 2), (64, 64, 1)]:
            layers += [nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x).mean(dim=(2, 3))


class SupConNet(nn.Module):
    def __init__(self, feat_dim=32):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(inplace=True), nn.Linear(64, feat_dim))

    def forward(self, x):
        return F.normalize(self.head(self.encoder(x)), dim=1)


class SupConLoss(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, features, labels):
        """features: [bsz, n_views, dim], labels: [bsz]"""
        n_views = features.shape[1]
        contrast = torch.cat(torch.unbind(features, dim=1), dim=0)
        labels = labels.repeat(n_views)
        logits = contrast @ contrast.T / self.temperature
        logits = logits - logits.max(dim=1, keepdim=True)[0].detach()
        logits_mask = 1 - torch.eye(len(labels))
        mask = torch.eq(labels[:, None], labels[None, :]).float() * logits_mask
        exp_logits = torch.exp(logits) * logits_mask
        log_prob = logits - torch.log(exp_logits.sum(1, keepdim=True))
        mean_log_prob_pos = (mask * log_prob).sum(1) / mask.sum(1)
        return -mean_log_prob_pos.mean()


def pretrain(model, loader, opt):
    criterion = SupConLoss(opt.temp)
    optimizer = torch.optim.AdamW(model.parameters(), lr=opt.learning_rate, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2 * opt.learning_rate, total_steps=opt.epochs * len(loader), pct_start=0.2
    )
    for epoch in range(1, opt.epochs + 1):
        model.train()
        total = 0.0
        for images, labels in loader:
            bsz = labels.shape[0]
            features = model(torch.cat([images[0], images[1]], dim=0))
            f1, f2 = torch.split(features, [bsz, bsz], dim=0)
            loss = criterion(torch.stack([f1, f2], dim=1), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item() * bsz
        print(f"epoch {epoch}, contrastive loss {total / len(loader.dataset):.3f}")


def train_linear(encoder, classifier, loader, opt):
    encoder.eval()
    optimizer = torch.optim.Adam(classifier.parameters(), lr=opt.linear_rate)
    for epoch in range(1, opt.linear_epochs + 1):
        classifier.train()
        for images, labels in loader:
            with torch.no_grad():
                features = encoder(images)
            loss = F.cross_entropy(classifier(features), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(f"linear classifier: last loss {loss.item():.3f}")


@torch.no_grad()
def validate(encoder, classifier, loader):
    encoder.eval()
    classifier.eval()
    correct = 0
    for images, labels in loader:
        correct += (classifier(encoder(images)).argmax(dim=1) == labels).sum().item()
    return correct / len(loader.dataset)


def main():
    opt = parse_option()
    torch.manual_seed(3)
    pixels = Digits(train=True).data.float() / 255
    mean, std = pixels.mean(), pixels.std()
    contrastive_set = Digits(train=True, transform=TwoCropTransform(Augment(mean, std)))
    linear_set = Digits(train=True, transform=Plain(mean, std))
    val_set = Digits(train=False, transform=Plain(mean, std))

    model = SupConNet()
    pretrain(model, DataLoader(contrastive_set, opt.batch_size, shuffle=True), opt)

    classifier = nn.Linear(64, 10)
    train_linear(model.encoder, classifier, DataLoader(linear_set, opt.batch_size, shuffle=True), opt)
    accuracy = validate(model.encoder, classifier, DataLoader(val_set, opt.batch_size))
    print(f"linear accuracy: {100 * accuracy:.2f}")


if __name__ == "__main__":
    main()
