# %% [markdown]
# Bands of house prices: 10 %, 50 % and 90 % quantiles.
# Computed in bfloat16, updated in float32.

# %%
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F

import toydata

torch.manual_seed(23)

# %% data
features, price = toydata.houses(1400, seed=30)
x_train, x_val, x_test = features[:1000], features[1000:1150], features[1150:]
y_train, y_val, y_test = price[:1000, None], price[1000:1150, None], price[1150:, None]
center, scale = y_train.mean(), y_train.std()
z_train = (y_train - center) / scale


# %% a loss with its own backward pass
class Pinball(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pred, target, levels):
        err = target - pred
        ctx.save_for_backward(err, levels)
        return torch.where(err >= 0, levels * err, (levels - 1) * err).mean()

    @staticmethod
    def backward(ctx, grad_output):
        err, levels = ctx.saved_tensors
        slope = torch.where(err >= 0, -levels, 1 - levels)
        return grad_output * slope / err.numel(), None, None


levels = torch.tensor([0.1, 0.5, 0.9])


# %% model: the lowest quantile, and what is added for each further one
class Bands(nn.Module):
    def __init__(self, n_in=8, hidden=64):
        super().__init__()
        self.fc1 = nn.Linear(n_in, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 3)

    def forward(self, x):
        h = F.gelu(self.fc1(x))
        h = F.gelu(self.fc2(h))
        raw = self.out(h).float()
        low, gaps = raw[:, :1], F.softplus(raw[:, 1:] - 1)
        return torch.cat([low, low + gaps.cumsum(1)], dim=1)


net = Bands()
half = copy.deepcopy(net).bfloat16()
print("parameters:", sum(p.numel() for p in net.parameters()))


# %%
@torch.no_grad()
def predict(x):
    return net(x) * scale + center


def pinball(pred, target):
    err = target - pred
    return torch.maximum(levels * err, (levels - 1) * err).mean().item()


def coverage(pred, target):
    return ((target >= pred[:, :1]) & (target <= pred[:, 2:])).float().mean().item()


def r_squared(pred, target):
    return (1 - ((target - pred[:, 1:2]) ** 2).sum() / ((target - target.mean()) ** 2).sum()).item()


# %% training
epochs, batch = 40, 50
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
best, best_state = float("inf"), None

for epoch in range(epochs):
    running = 0.0
    for index in torch.randperm(len(x_train)).split(batch):
        xb, zb = x_train[index].bfloat16(), z_train[index]
        loss = Pinball.apply(half(xb), zb, levels)
        loss.backward()
        for p, h in zip(net.parameters(), half.parameters()):
            p.grad = h.grad.float()
            h.grad = None
        optimizer.step()
        with torch.no_grad():
            for p, h in zip(net.parameters(), half.parameters()):
                h.copy_(p)
        running += loss.detach() * len(index)
    scheduler.step()
    val_loss = pinball(predict(x_val), y_val)
    if val_loss < best:
        best, best_state = val_loss, copy.deepcopy(net.state_dict())
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1:2d}  train {running / len(x_train):.4f}  val (thousands) {val_loss:.3f}")

# %% result
net.load_state_dict(best_state)
bands = predict(x_test)
print(f"test: pinball {pinball(bands, y_test):.3f}, R2 of the median {r_squared(bands, y_test):.3f}")
print(f"share of prices inside the band {coverage(bands, y_test):.3f}")
for row, truth in list(zip(bands.tolist(), y_test.flatten().tolist()))[:5]:
    print("  ".join(f"{v:7.1f}" for v in row), "| sold for", f"{truth:.1f}")
