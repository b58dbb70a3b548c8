# %% [markdown]
# # Which shape, which color?
# Small pictures from the bench camera (white is at 230), six classes.

# %%
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import NAMES, Shapes

np.random.seed(0)
torch.manual_seed(0)

# %% load: uint8, height x width x channels
def camera(train, count):
    ds = Shapes(train=train, count=count)
    pics = torch.stack(ds.images).permute(0, 2, 3, 1).numpy()
    return np.uint8(pics * 230), np.array(ds.targets)


raw_train, y_train = camera(True, 1200)
raw_test, y_test = camera(False, 300)
print(raw_train.shape, raw_train.dtype, raw_train.min(), raw_train.max())

# %%
print("per class:", dict(zip(NAMES, np.bincount(y_train))))

# %% to tensors
def prepare(raw):
    scaled = raw.astype(np.float32) / 230
    chw = scaled.transpose(0, 3, 1, 2)
    return (torch.from_numpy(np.ascontiguousarray(chw)).float() - 0.48) / 0.2


X_train, X_test = prepare(raw_train), prepare(raw_test)
Y_train, Y_test = torch.as_tensor(y_train).long(), torch.as_tensor(y_test).long()
X_train.shape, X_train.mean(), X_train.std()

# %%
train_dl = DataLoader(TensorDataset(X_train, Y_train), batch_size=40, shuffle=True)
test_dl = DataLoader(TensorDataset(X_test, Y_test), batch_size=100)

# %% the net
class Net(nn.Module):
    def __init__(self, ch=16):
        super().__init__()
        self.conv1 = nn.Conv2d(3, ch, 3, padding=1)
        self.conv2 = nn.Conv2d(ch, ch * 2, 3, padding=1)
        self.conv3 = nn.Conv2d(ch * 2, ch * 2, 3, padding=1)
        self.fc1 = nn.Linear(ch * 2, 48)
        self.fc2 = nn.Linear(48, len(NAMES))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.relu(self.conv2(x))
        x = F.relu(self.conv3(x))
        x = F.adaptive_max_pool2d(x, 1).flatten(1)
        return self.fc2(F.relu(self.fc1(x)))


# %%
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
sum(p.numel() for p in net.parameters())

# %% does it run?
xb, yb = next(iter(train_dl))
with torch.no_grad():
    print(net(xb).shape, F.cross_entropy(net(xb), yb))

# %% helper
def score(loader):
    net.eval()
    hits = torch.zeros(len(NAMES), len(NAMES), dtype=torch.long)
    with torch.no_grad():
        for xb, yb in loader:
            for t, p in zip(yb, net(xb).argmax(dim=1)):
                hits[t, p] += 1
    net.train()
    return hits


# %% train
curve = []
EPOCHS = 14

for epoch in range(EPOCHS):
    running = 0.0
    for xb, yb in train_dl:
        opt.zero_grad()
        out = net(xb)
        loss = F.cross_entropy(out, yb)
        loss.backward()
        opt.step()
        running += loss.item()
    curve.append(running / len(train_dl))
    if epoch == 10:
        for g in opt.param_groups:
            g["lr"] /= 5
    print(f"{epoch:2d}  {curve[-1]:.4f}  " + "#" * int(20 * min(curve[-1], 3)))

# %% result
confusion = score(test_dl)
print(confusion)
for name, row, k in zip(NAMES, confusion, range(6)):
    print(f"{name:<12} recall {row[k].item() / max(row.sum().item(), 1):.3f}")
print("test accuracy:", round(confusion.diag().sum().item() / confusion.sum().item(), 4))
