# %% [markdown]
# # DenseNet with stochastic weight averaging (notebook)

# %%
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(7)

# %%
x_train, y_train = draw_digits(1280, seed=3, noise=0.2)
x_val, y_val = draw_digits(400, seed=4, noise=0.2)
x_train, x_val = x_train.float() / 255, x_val.float() / 255
mean, std = x_train.mean(), x_train.std()
x_train, x_val = (x_train - mean) / std, (x_val - mean) / std
train_dl = DataLoader(TensorDataset(x_train, y_train), batch_size=32, shuffle=True)
val_dl = DataLoader(TensorDataset(x_val, y_val), batch_size=100)
print(x_train.shape, x_train.mean().item(), x_train.std().item())


# %%
class DenseLayer(nn.Module):
    def __init__(self, channels, growth):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class Transition(nn.Sequential):
    def __init__(self, channels, out):
        super().__init__(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, out, 1, bias=False), nn.AvgPool2d(2))


class DenseNet(nn.Module):
    def __init__(self, growth=8, layers=(3, 3), classes=10):
        super().__init__()
        channels = 2 * growth
        blocks = [nn.Conv2d(1, channels, 3, padding=1, bias=False)]
        for i, n in enumerate(layers):
            for _ in range(n):
                blocks.append(DenseLayer(channels, growth))
                channels += growth
            if i + 1 < len(layers):
                blocks.append(Transition(channels, channels // 2))
                channels //= 2
        self.features = nn.Sequential(*blocks, nn.BatchNorm2d(channels), nn.ReLU())
        self.head = nn.Linear(channels * 4, classes)

    def forward(self, x):
        x = F.adaptive_avg_pool2d(self.features(x), 2)
        return self.head(x.flatten(1))


# %%
def accuracy(net, loader):
    net.eval()
    hits = 0
    with torch.no_grad():
        for xb, yb in loader:
            hits += (net(xb).argmax(1) == yb).sum().item()
    return hits / len(loader.dataset)


# %%
EPOCHS, SWA_START = 24, 16
net = DenseNet()
swa_net = AveragedModel(net)
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)
cosine = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=SWA_START, eta_min=0.01)
swa_sched = SWALR(opt, swa_lr=0.02, anneal_epochs=2)

for epoch in range(EPOCHS):
    net.train()
    total = 0.0
    for xb, yb in train_dl:
        opt.zero_grad()
        loss = F.cross_entropy(net(xb), yb)
        loss.backward()
        opt.step()
        total += loss.item() * len(xb)
    if epoch >= SWA_START:
        swa_net.update_parameters(net)
        swa_sched.step()
    else:
        cosine.step()
    print(f"epoch {epoch:2d}  loss {total / len(train_dl.dataset):.4f}  val acc {accuracy(net, val_dl):.4f}")

# %%
update_bn(train_dl, swa_net)
print(f"SWA val acc {accuracy(swa_net, val_dl):.4f}")
