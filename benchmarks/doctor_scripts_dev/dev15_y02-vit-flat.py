"""
Trains a very small ViT on 16x16 digits. One process, one file, no frills.
$ python y02-vit-flat.py
"""
import math
import time

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import draw_digits

# -----------------------------------------------------------------------------
# I/O
eval_interval = 100
eval_iters = 8
log_interval = 50
# model
n_layer = 2
n_head = 4
n_embd = 64
dropout = 0.0
patch = 4
img = 16
n_class = 10
# adamw optimizer
gradient_accumulation_steps = 2
batch_size = 40
learning_rate = 2e-3
max_iters = 360
weight_decay = 5e-2
beta1 = 0.9
beta2 = 0.99
grad_clip = 1.0
# learning rate decay settings
decay_lr = True
warmup_iters = 30
lr_decay_iters = 360
min_lr = 1e-4
# -----------------------------------------------------------------------------
torch.manual_seed(1337)

data = {}
for split, count, seed in (("train", 2400, 50), ("val", 400, 51)):
    pixels, digits = draw_digits(count, size=img, seed=seed)
    data[split] = (pixels.float().div(255).sub(0.2).div(0.3), digits)


def get_batch(split):
    images, labels = data[split]
    ix = torch.randint(len(images), (batch_size,))
    x = torch.stack([images[i] for i in ix])
    y = torch.stack([labels[i] for i in ix])
    return x, y


class ViT(nn.Module):

    def __init__(self):
        super().__init__()
        n_tok = (img // patch) ** 2
        self.wpe = nn.Parameter(0.02 * torch.randn(1, n_tok, n_embd))
        self.stem = nn.Conv2d(1, n_embd, kernel_size=patch, stride=patch)
        self.h = nn.ModuleList([
            nn.TransformerEncoderLayer(
                n_embd, n_head, 4 * n_embd, dropout, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(n_layer)
        ])
        self.ln_f = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, n_class, bias=False)
        n_params = sum(p.numel() for p in self.parameters())
        print("number of parameters: %.2fK" % (n_params / 1e3,))

    def forward(self, x, targets=None):
        tok = self.stem(x).flatten(2).transpose(1, 2)  # (B, T, C)
        x = tok + self.wpe
        for block in self.h:
            x = block(x)
        logits = self.head(self.ln_f(x).mean(dim=1))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits, targets)
        return logits, loss

    def configure_optimizers(self, weight_decay, learning_rate, betas):
        # start with all of the candidate parameters
        param_dict = {pn: p for pn, p in self.named_parameters() if p.requires_grad}
        # matmuls and embeddings decay, biases and layernorms don't
        decay_params = [p for n, p in param_dict.items() if p.dim() >= 2]
        nodecay_params = [p for n, p in param_dict.items() if p.dim() < 2]
        optim_groups = [
            {"params": decay_params, "weight_decay": weight_decay},
            {"params": nodecay_params, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(optim_groups, lr=learning_rate, betas=betas)


@torch.no_grad()
def estimate_loss():
    out = {}
    model.eval()
    for split in ["train", "val"]:
        losses, hits = torch.zeros(eval_iters), torch.zeros(eval_iters)
        for k in range(eval_iters):
            X, Y = get_batch(split)
            logits, loss = model(X, Y)
            losses[k] = loss.item()
            hits[k] = (logits.argmax(dim=-1) == Y).float().mean()
        out[split] = (losses.mean().item(), hits.mean().item())
    model.train()
    return out


# learning rate decay scheduler (cosine with warmup)
def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    if it > lr_decay_iters:
        return min_lr
    decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
    return min_lr + coeff * (learning_rate - min_lr)


model = ViT()
optimizer = model.configure_optimizers(weight_decay, learning_rate, (beta1, beta2))

X, Y = get_batch("train")
t0 = time.time()
for iter_num in range(max_iters + 1):
    lr = get_lr(iter_num) if decay_lr else learning_rate
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr

    if iter_num % eval_interval == 0:
        res = estimate_loss()
        print(f"step {iter_num}: train loss {res['train'][0]:.4f}, val loss {res['val'][0]:.4f}, val acc {res['val'][1]:.3f}")

    for micro_step in range(gradient_accumulation_steps):
        logits, loss = model(X, Y)
        loss = loss / gradient_accumulation_steps
        X, Y = get_batch("train")
        loss.backward()
    if grad_clip != 0.0:
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

    if iter_num % log_interval == 0:
        lossf = loss.item() * gradient_accumulation_steps
        print(f"iter {iter_num}: loss {lossf:.4f}, time {time.time() - t0:.1f}s")

model.eval()
with torch.no_grad():
    images, labels = data["val"]
    acc = (model(images)[0].argmax(dim=-1) == labels).float().mean().item()
print(f"all of val: accuracy {acc:.4f}")
