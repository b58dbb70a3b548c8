"""Keras-like compile/fit/evaluate: imbalanced signals, weighted sampler, focal loss with class weights, bf16 autocast, macro F1."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset, WeightedRandomSampler

from toydata import waves


class FocalLoss(nn.Module):
    def __init__(self, gamma=2.0, alpha=None):
        super().__init__()
        self.gamma = gamma
        self.register_buffer("alpha", alpha)

    def forward(self, logits, target):
        logp = F.log_softmax(logits.float(), -1).gather(1, target[:, None]).squeeze(1)
        a = 1.0 if self.alpha is None else self.alpha[target]
        return (-a * (1 - logp.exp()) ** self.gamma * logp).mean()


class MacroF1:
    def __init__(self, n): self.n = n; self.reset()
    def reset(self): self.cm = torch.zeros(self.n, self.n, dtype=torch.long)
    def update(self, logits, y): self.cm += torch.bincount(y * self.n + logits.argmax(1), minlength=self.n ** 2).view(self.n, self.n)
    def result(self):
        tp = self.cm.diag().float()
        return (2 * tp / (self.cm.sum(0) + self.cm.sum(1)).clamp(min=1)).mean().item()


class History(dict):
    def add(self, logs):
        for k, v in logs.items():
            self.setdefault(k, []).append(v)


class Model:
    def __init__(self, net): self.net = net

    def compile(self, optimizer, loss, metrics=()):
        self.optimizer, self.loss, self.metrics = optimizer, loss, dict(metrics)
        return self

    def _loop(self, loader, training):
        self.net.train(training)
        for m in self.metrics.values(): m.reset()
        total = count = 0
        with torch.set_grad_enabled(training):
            for x, y in loader:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    logits = self.net(x)
                    loss = self.loss(logits, y)
                if training:
                    self.optimizer.zero_grad()
                    loss.backward()
                    self.optimizer.step()
                total, count = total + loss.item() * len(x), count + len(x)
                for m in self.metrics.values(): m.update(logits.detach().float(), y)
        return {"loss": total / count, **{k: m.result() for k, m in self.metrics.items()}}

    def fit(self, train, validation_data=None, epochs=1, verbose=1):
        h = History()
        for e in range(epochs):
            logs = self._loop(train, True)
            if validation_data is not None:
                logs.update({"val_" + k: v for k, v in self.evaluate(validation_data).items()})
            h.add(logs)
            if verbose:
                print(f"Epoch {e + 1}/{epochs} - " + " - ".join(f"{k}: {v:.4f}" for k, v in logs.items()))
        return h

    def evaluate(self, data): return self._loop(data, False)


class GatedNet(nn.Module):
    def __init__(self, c=24):
        super().__init__()
        self.inp = nn.Conv1d(1, c, 5, padding=2)
        self.blocks = nn.ModuleList([nn.Conv1d(c, 2 * c, 3, padding=2 ** i, dilation=2 ** i) for i in range(4)])
        self.out = nn.Linear(c, 4)

    def forward(self, x):
        x = self.inp(x)
        for b in self.blocks:
            x = x + F.glu(b(x), dim=1)
        return self.out(x.mean(-1))


def thin(n, seed, keep=(1.0, 0.5, 0.25, 0.12)):
    x, y = waves(n, seed=seed)
    g = torch.Generator().manual_seed(seed)
    sel = torch.rand(n, generator=g) < torch.tensor(keep)[y]
    return x[sel] + 0.7 * torch.randn(int(sel.sum()), 1, x.size(-1), generator=g), y[sel]


torch.manual_seed(0)
X, Y = thin(1600, 0)
Xt, Yt = thin(800, 1)
counts = torch.bincount(Y, minlength=4)
print("counts", counts.tolist())
sampler = WeightedRandomSampler((1.0 / counts.float().sqrt())[Y], num_samples=len(Y), replacement=True)
train = DataLoader(TensorDataset(X, Y), batch_size=32, sampler=sampler)
test = DataLoader(TensorDataset(Xt, Yt), batch_size=128)
alpha = counts.float().rsqrt()
net = GatedNet()
model = Model(net).compile(torch.optim.NAdam(net.parameters(), lr=3e-3), FocalLoss(1.5, alpha / alpha.mean()), {"f1": MacroF1(4)})
history = model.fit(train, validation_data=test, epochs=12)
print("macro F1 per epoch", [round(v, 3) for v in history["val_f1"]])
