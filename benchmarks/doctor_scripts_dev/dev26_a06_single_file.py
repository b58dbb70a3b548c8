"""
One file, no framework: a little convnet that reads digits.
$ python a06_single_file.py
"""
import copy
import math
import time

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import draw_digits

# -----------------------------------------------------------------------------
# I/O
eval_interval = 50
# data
num_images = 3000
batch_size = 64
# model
n_channel = 32
dropout = 0.1
# adamw optimizer
learning_rate = 2e-3
max_iters = 600
weight_decay = 1e-2
beta1, beta2 = 0.9, 0.99
grad_clip = 1.0
# learning rate decay
warmup_iters = 50
lr_decay_iters = 600
min_lr = learning_rate / 10
seed = 1337
# -----------------------------------------------------------------------------

torch.manual_seed(seed)

X, Y = draw_digits(num_images, seed=seed)
X = X.float() / 255
perm = torch.randperm(len(X))
X, Y = X[perm], Y[perm]
n = int(0.8 * len(X))
mean, std = X[:n].mean(), X[:n].std()
X = (X - mean) / std
data = {'train': (X[:n], Y[:n]), 'val': (X[n:], Y[n:])}


def get_batch(split):
    x, y = data[split]
    ix = torch.randint(len(x), (batch_size,))
    return x[ix], y[ix]


class ConvNet(nn.Module):

    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, n_channel, 3, padding=1)
        self.c2 = nn.Conv2d(n_channel, 2 * n_channel, 3, padding=1)
        self.c3 = nn.Conv2d(2 * n_channel, 2 * n_channel, 3, padding=1)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(2 * n_channel * 4 * 4, 10)
        self.apply(self._init_weights)
        # small logits at init, so that the first loss is about -log(1/10)
        nn.init.normal_(self.head.weight, std=0.01)
        print("number of parameters: %.1fK" % (sum(p.numel() for p in self.parameters()) / 1e3,))

    def _init_weights(self, module):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x, targets=None):
        x = F.max_pool2d(F.gelu(self.c1(x)), 2)  # (B, C, 8, 8)
        x = F.max_pool2d(F.gelu(self.c2(x)), 2)  # (B, 2C, 4, 4)
        x = F.gelu(self.c3(x))
        logits = self.head(self.drop(x.flatten(1)))
        loss = None if targets is None else F.cross_entropy(logits, targets)
        return logits, loss


def get_lr(it):
    # 1) linear warmup for warmup_iters steps
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    # 2) after lr_decay_iters, the minimum
    if it > lr_decay_iters:
        return min_lr
    # 3) in between, cosine down to min learning rate
    decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
    return min_lr + coeff * (learning_rate - min_lr)


@torch.no_grad()
def evaluate(split, limit=600):
    model.eval()
    x, y = data[split]
    x, y = x[:limit], y[:limit]
    loss, correct = 0.0, 0
    for xb, yb in zip(x.split(100), y.split(100)):
        logits, l = model(xb, yb)
        loss += l.item() * len(xb)
        correct += (logits.argmax(-1) == yb).sum().item()
    model.train()
    return loss / len(x), correct / len(x)


model = ConvNet()
decay = [p for p in model.parameters() if p.dim() >= 2]
nodecay = [p for p in model.parameters() if p.dim() < 2]
optimizer = torch.optim.AdamW(
    [{'params': decay, 'weight_decay': weight_decay}, {'params': nodecay, 'weight_decay': 0.0}],
    lr=learning_rate, betas=(beta1, beta2))

best_val_loss = 1e9
checkpoint = None
t0 = time.time()
model.train()
for it in range(max_iters):
    lr = get_lr(it)
    for group in optimizer.param_groups:
        group['lr'] = lr

    xb, yb = get_batch('train')
    logits, loss = model(xb, yb)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()

    if (it + 1) % eval_interval == 0:
        train_loss, train_acc = evaluate('train')
        val_loss, val_acc = evaluate('val')
        dt, t0 = time.time() - t0, time.time()
        print(f"iter {it + 1}: train loss {train_loss:.4f}, val loss {val_loss:.4f}, "
              f"train acc {train_acc:.4f}, val acc {val_acc:.4f}, {dt:.1f}s")
        if val_loss < best_val_loss:
            best_val_loss = val_loss
            checkpoint = {'model': copy.deepcopy(model.state_dict()), 'iter': it + 1}

model.load_state_dict(checkpoint['model'])
print(f"best checkpoint: iter {checkpoint['iter']}, val acc {evaluate('val')[1]:.4f}")
