"""Transfer: a network for clean digits is fine-tuned on dark, noisy ones, of which there are 25 a class."""

import os
import random
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class ImageItems(Dataset):
    def __init__(self, images, labels, stats=None, augment=False):
        x = images.float() / 255
        self.stats = stats or (x.mean().item(), x.std().item())
        self.x = (x - self.stats[0]) / self.stats[1]
        self.y = labels
        self.augment = augment

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = self.x[i]
        if self.augment:
            x = torch.roll(x, (random.randint(-1, 1), random.randint(-1, 1)), (1, 2))
        return x, self.y[i]


def per_class(images, labels, n, n_classes=10):
    picked = torch.cat([torch.where(labels == c)[0][:n] for c in range(n_classes)])
    return images[picked], labels[picked]


def dataloaders(train_ds, valid_ds, bs=32):
    return DataLoader(train_ds, batch_size=bs, shuffle=True), DataLoader(valid_ds, batch_size=2 * bs)


def conv_layer(ni, nf, pool):
    layers = [nn.Conv2d(ni, nf, 3, padding=1, bias=False), nn.BatchNorm2d(nf), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pool else nn.Sequential(*layers)


class Classifier(nn.Module):
    def __init__(self, n_out):
        super().__init__()
        self.body = nn.Sequential(
            conv_layer(1, 16, False), conv_layer(16, 32, True), conv_layer(32, 64, True), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Dropout(0.25), nn.Linear(256, n_out))

    def forward(self, x):
        return self.head(self.body(x))


class Learner:
    def __init__(self, dls, model, loss_func, wd=0.01):
        self.train_dl, self.valid_dl = dls
        self.model = model.to(device)
        self.loss_func, self.wd = loss_func, wd
        self.opt = None

    def freeze(self):
        self.model.body.requires_grad_(False)

    def unfreeze(self):
        self.model.body.requires_grad_(True)

    def create_opt(self, lr, div):
        groups = [{"params": list(self.model.head.parameters()), "peak": lr}]
        body = [p for p in self.model.body.parameters() if p.requires_grad]
        if body:
            groups.append({"params": body, "peak": lr / div})
        self.opt = torch.optim.AdamW(groups, lr=lr, weight_decay=self.wd)

    def one_epoch(self, sched):
        self.model.train()
        total = 0.0
        for xb, yb in self.train_dl:
            xb, yb = xb.to(device), yb.to(device)
            loss = self.loss_func(self.model(xb), yb)
            loss.backward()
            self.opt.step()
            self.opt.zero_grad()
            sched.step()
            total += loss.item() * len(yb)
        return total / len(self.train_dl.dataset)

    @torch.no_grad()
    def validate(self, dl=None):
        dl = dl or self.valid_dl
        self.model.eval()
        total, right = 0.0, 0
        for xb, yb in dl:
            xb, yb = xb.to(device), yb.to(device)
            out = self.model(xb)
            total += self.loss_func(out, yb).item() * len(yb)
            right += (out.argmax(dim=1) == yb).sum().item()
        return total / len(dl.dataset), right / len(dl.dataset)

    def fit_one_cycle(self, n_epoch, lr_max, div=1.0):
        self.create_opt(lr_max, div)
        peaks = [group["peak"] for group in self.opt.param_groups]
        sched = torch.optim.lr_scheduler.OneCycleLR(
            self.opt, max_lr=peaks, total_steps=n_epoch * len(self.train_dl), pct_start=0.25
        )
        for epoch in range(n_epoch):
            train_loss = self.one_epoch(sched)
            valid_loss, acc = self.validate()
            print(f"{epoch:>3} {train_loss:9.4f} {valid_loss:9.4f} {acc:9.4f}")

    def fine_tune(self, epochs, base_lr=4e-3, freeze_epochs=2):
        self.freeze()
        self.fit_one_cycle(freeze_epochs, base_lr)
        self.unfreeze()
        self.fit_one_cycle(epochs, base_lr / 2, div=2)


def pretrain(path):
    train_ds = ImageItems(*draw_digits(1200, seed=0), augment=True)
    valid_ds = ImageItems(*draw_digits(300, seed=1), stats=train_ds.stats)
    learn = Learner(dataloaders(train_ds, valid_ds, bs=48), Classifier(10), nn.CrossEntropyLoss())
    learn.fit_one_cycle(5, 4e-3)
    torch.save(learn.model.state_dict(), path)


def main():
    random.seed(5)
    torch.manual_seed(5)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "digits.pth")
        print("source task")
        pretrain(path)
        saved = torch.load(path, map_location=device)

    pool, pool_labels = draw_digits(800, seed=20, noise=0.25)
    few, few_labels = per_class(255 - pool[:600], pool_labels[:600], n=25)
    train_ds = ImageItems(few, few_labels, augment=True)
    valid_ds = ImageItems(255 - pool[600:], pool_labels[600:], stats=train_ds.stats)

    model = Classifier(10).to(device)
    weights = {name: value for name, value in saved.items() if name.startswith("body.")}
    model.load_state_dict(weights, strict=False)

    print("target task")
    learn = Learner(dataloaders(train_ds, valid_ds), model, nn.CrossEntropyLoss())
    learn.fine_tune(12)

    test_images, test_labels = draw_digits(400, seed=21, noise=0.25)
    test_ds = ImageItems(255 - test_images, test_labels, stats=train_ds.stats)
    print("test loss %.4f accuracy %.4f" % learn.validate(DataLoader(test_ds, batch_size=64)))


if __name__ == "__main__":
    main()
