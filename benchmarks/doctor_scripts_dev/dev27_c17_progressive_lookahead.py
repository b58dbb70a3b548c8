# Notebook export: progressive resizing (12 -> 16 -> 24 pixels) with the Lookahead optimizer
# In[1]:
from collections import defaultdict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes

torch.manual_seed(31)


# In[2]:
class Lookahead(Optimizer):
    """k steps forward, 1 step back (Zhang et al. 2019)."""

    def __init__(self, base, k=5, alpha=0.5):
        self.base, self.k, self.alpha = base, k, alpha
        self.param_groups = base.param_groups
        self.defaults = base.defaults
        self.state = defaultdict(dict)
        self.counter = 0
        self.slow = [[p.detach().clone() for p in group["params"]] for group in base.param_groups]

    def zero_grad(self, set_to_none=True):
        self.base.zero_grad(set_to_none=set_to_none)

    @torch.no_grad()
    def step(self, closure=None):
        loss = self.base.step(closure)
        self.counter += 1
        if self.counter % self.k == 0:
            for group, slows in zip(self.param_groups, self.slow):
                for p, slow in zip(group["params"], slows):
                    slow.add_(p - slow, alpha=self.alpha)
                    p.copy_(slow)
        return loss


# In[3]:
def load(train):
    ds = Shapes(train, count=960 if train else 240, size=24)
    return (torch.stack(ds.images) - 0.48) / 0.18, torch.tensor(ds.targets)


x_train, y_train = load(True)
x_val, y_val = load(False)


def resize(x, size):
    if size == x.shape[-1]:
        return x
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def loaders(size, bs):
    train = DataLoader(TensorDataset(resize(x_train, size), y_train), bs, shuffle=True)
    val = DataLoader(TensorDataset(resize(x_val, size), y_val), 120)
    return train, val


# In[4]:
def block(i, o, stride):
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.Mish())


net = nn.Sequential(block(3, 16, 1), block(16, 24, 1), block(24, 32, 2), block(32, 64, 1),
                    nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.1), nn.Linear(256, 6))


def validate(loader):
    net.eval()
    with torch.no_grad():
        hits = sum((net(x).argmax(1) == y).sum().item() for x, y in loader)
    return hits / len(loader.dataset)


# In[5]:
history = []
for size, epochs, bs, lr in [(12, 8, 32, 4e-3), (16, 8, 32, 3e-3), (24, 8, 32, 2e-3)]:
    train_dl, val_dl = loaders(size, bs)
    opt = Lookahead(torch.optim.RAdam(net.parameters(), lr=lr, weight_decay=1e-4))
    for epoch in range(epochs):
        for group in opt.param_groups:
            group["lr"] = lr * (1.0 if epoch < epochs // 2 else 1.0 - (epoch - epochs // 2) / (epochs // 2) * 0.8)
        net.train()
        running = 0.0
        for x, y in train_dl:
            if torch.rand(()) < 0.5:
                x = x.flip(-1)
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            running += loss.item()
        history.append((size, running / len(train_dl), validate(val_dl)))
        print("size %2d  epoch %d  loss %.4f  val acc %.4f" % (size, epoch, *history[-1][1:]))

# In[6]:
print("at full size: %.4f" % validate(loaders(24, 32)[1]))
