"""In the idiom of nanoGPT: settings at the top, get_batch, get_lr, micro steps; images in patches, a small transformer."""

import math

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

batch_size = 32
gradient_accumulation_steps = 2
n_layer, n_head, n_embd = 2, 4, 48
learning_rate, min_lr = 2e-3, 1e-4
warmup_iters, max_iters = 20, 260
weight_decay, beta1, beta2, grad_clip = 0.05, 0.9, 0.98, 1.0
eval_interval, eval_iters = 40, 4

torch.manual_seed(1337)
bunch = load_digits()
order = torch.randperm(len(bunch.target))
images = torch.tensor(bunch.images, dtype=torch.float32)[order] / 8.0 - 1.0
labels = torch.tensor(bunch.target)[order].long()
n = int(0.8 * len(labels))
train_data, val_data = (images[:n], labels[:n]), (images[n:], labels[n:])


def get_batch(split):
    X, Y = train_data if split == "train" else val_data
    ix = torch.randint(len(Y), (batch_size,))
    return X[ix], Y[ix]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.c_attn, self.c_proj = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
        self.mlp = nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = (t.view(B, T, n_head, C // n_head).transpose(1, 2) for t in self.c_attn(self.ln_1(x)).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.c_proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.ln_2(x))


class PatchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Linear(4, n_embd)
        self.wpe = nn.Embedding(16, n_embd)
        self.h = nn.ModuleList([Block() for _ in range(n_layer)])
        self.ln_f = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, 10)

    def forward(self, idx, targets=None):
        patches = F.unfold(idx.unsqueeze(1), 2, stride=2).transpose(1, 2)
        x = self.wte(patches) + self.wpe(torch.arange(16))
        for block in self.h:
            x = block(x)
        logits = self.head(self.ln_f(x).mean(1))
        loss = None if targets is None else F.cross_entropy(logits, targets)
        return logits, loss

    def configure_optimizers(self):
        decay = [p for p in self.parameters() if p.dim() >= 2]
        nodecay = [p for p in self.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": weight_decay}, {"params": nodecay, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(beta1, beta2))


model = PatchNet()
optimizer = model.configure_optimizers()


@torch.no_grad()
def estimate_loss():
    out = {}
    model.eval()
    for split in ["train", "val"]:
        losses = torch.zeros(eval_iters)
        for k in range(eval_iters):
            X, Y = get_batch(split)
            _, loss = model(X, Y)
            losses[k] = loss.item()
        out[split] = losses.mean()
    model.train()
    return out


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    if it > max_iters:
        return min_lr
    coeff = 0.5 * (1.0 + math.cos(math.pi * (it - warmup_iters) / (max_iters - warmup_iters)))
    return min_lr + coeff * (learning_rate - min_lr)


iter_num = 0
X, Y = get_batch("train")
while iter_num <= max_iters:
    lr = get_lr(iter_num)
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr
    if iter_num % eval_interval == 0:
        losses = estimate_loss()
        print(f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
    for micro_step in range(gradient_accumulation_steps):
        logits, loss = model(X, Y)
        loss = loss / gradient_accumulation_steps
        X, Y = get_batch("train")
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    iter_num += 1
