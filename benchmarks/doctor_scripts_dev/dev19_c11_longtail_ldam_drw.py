"""Long-tailed digits: LDAM loss with deferred re-weighting (Cao et al. 2019). Tested on a balanced set."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn import Parameter
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

EPOCHS, DRW_EPOCH = 34, 24


class LongTailedDigits(Dataset):
    """The n-th digit is drawn less often the higher n is: 600 zeros, 30 nines."""

    def __init__(self, imb_factor=0.05, top=600, seed=50):
        images, labels = draw_digits(12 * top, seed=seed, noise=0.22)
        self.cls_num_list = [int(top * imb_factor ** (c / 9.0)) for c in range(10)]
        keep = torch.cat([(labels == c).nonzero().flatten()[:n] for c, n in enumerate(self.cls_num_list)])
        self.images, self.labels = images[keep], labels[keep]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = (self.images[i].float() / 255 - 0.25) / 0.33
        image = F.pad(image, (1, 1, 1, 1), value=-0.75)
        top, left = torch.randint(0, 3, (2,)).tolist()
        return image[:, top : top + 16, left : left + 16], self.labels[i]


class NormedLinear(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = Parameter(torch.empty(in_features, out_features))
        self.weight.data.uniform_(-1, 1).renorm_(2, 1, 1e-5).mul_(1e5)

    def forward(self, x):
        return F.normalize(x, dim=1).mm(F.normalize(self.weight, dim=0))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        chans = [1, 24, 32, 48]
        self.features = nn.Sequential(
            *[
                nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True), nn.MaxPool2d(2))
                for a, b in zip(chans, chans[1:])
            ]
        )
        self.embed = nn.Linear(48 * 4, 64)
        self.linear = NormedLinear(64, 10)

    def forward(self, x):
        return self.linear(self.embed(self.features(x).flatten(1)))  # cosines


class LDAMLoss(nn.Module):
    def __init__(self, cls_num_list, max_m=0.5, weight=None, s=20):
        super().__init__()
        m_list = 1.0 / np.sqrt(np.sqrt(cls_num_list))
        m_list = m_list * (max_m / np.max(m_list))
        self.m_list = torch.tensor(m_list, dtype=torch.float32)
        self.s = s
        self.weight = weight

    def forward(self, x, target):
        index = torch.zeros_like(x, dtype=torch.bool)
        index.scatter_(1, target.view(-1, 1), True)
        batch_m = self.m_list[target].view(-1, 1)
        output = torch.where(index, x - batch_m, x)
        return F.cross_entropy(self.s * output, target, weight=self.weight)


def per_class_weights(cls_num_list, beta):
    """Class-balanced weights from the effective number of samples."""
    effective_num = 1.0 - np.power(beta, cls_num_list)
    weights = (1.0 - beta) / np.array(effective_num)
    weights = weights / np.sum(weights) * len(cls_num_list)
    return torch.tensor(weights, dtype=torch.float32)


def adjust_learning_rate(optimizer, epoch, lr):
    epoch = epoch + 1
    if epoch <= 3:
        lr = lr * epoch / 3
    elif epoch > 31:
        lr = lr * 0.01
    elif epoch > 26:
        lr = lr * 0.1
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr


def train(loader, model, criterion, optimizer):
    model.train()
    losses, n = 0.0, 0
    for x, target in loader:
        loss = criterion(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses, n = losses + loss.item() * len(x), n + len(x)
    return losses / n


@torch.no_grad()
def validate(loader, model):
    model.eval()
    hits, counts = torch.zeros(10), torch.zeros(10)
    for x, target in loader:
        right = model(x).argmax(1) == target
        hits += torch.bincount(target[right], minlength=10)
        counts += torch.bincount(target, minlength=10)
    return hits / counts


def main():
    torch.manual_seed(0)
    train_set = LongTailedDigits()
    print("cls num list:", train_set.cls_num_list)
    images, labels = draw_digits(500, seed=51, noise=0.22)
    val_set = torch.utils.data.TensorDataset((images.float() / 255 - 0.25) / 0.33, labels)
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=250)

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=2e-4)
    for epoch in range(EPOCHS):
        adjust_learning_rate(optimizer, epoch, 0.05)
        beta = 0.0 if epoch < DRW_EPOCH else 0.999  # no weights at first
        weights = per_class_weights(train_set.cls_num_list, beta)
        criterion = LDAMLoss(train_set.cls_num_list, max_m=0.4, weight=weights)
        loss = train(train_loader, model, criterion, optimizer)
        recall = validate(val_loader, model)
        print(f"epoch {epoch:2d} loss {loss:.3f} balanced acc {recall.mean():.3f} | many {recall[:3].mean():.3f} medium {recall[3:7].mean():.3f} few {recall[7:].mean():.3f}")


if __name__ == "__main__":
    main()
