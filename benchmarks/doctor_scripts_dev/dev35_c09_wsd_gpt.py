"""
A character-level GPT on sentences of a small grammar. Gradients of a few micro-batches are accumulated for one
step, and the learning rate goes up, stays, and comes down at the end (warmup-stable-decay).
"""
import math
import os
import tempfile

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import text

# -----------------------------------------------------------------------------
block_size = 48
batch_size = 16
grad_accum = 2
n_layer, n_head, n_embd, dropout = 2, 4, 64, 0.1
max_iters, eval_interval = 300, 50
learning_rate, min_lr = 3e-3, 3e-4
warmup_iters, decay_iters = 30, 75
weight_decay, beta1, beta2, grad_clip = 0.1, 0.9, 0.95, 1.0
# -----------------------------------------------------------------------------

torch.manual_seed(1337)
corpus = text(24000)
chars = sorted(set(corpus))
stoi = {ch: i for i, ch in enumerate(chars)}
data = torch.tensor([stoi[ch] for ch in corpus], dtype=torch.long)
split = int(0.9 * len(data))
train_data, val_data = data[:split], data[split:]


def get_batch():
    ix = torch.randint(len(train_data) - block_size, (batch_size,))
    x = torch.stack([train_data[i : i + block_size] for i in ix])
    y = torch.stack([train_data[i + 1 : i + 1 + block_size] for i in ix])
    return x, y


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.c_attn = nn.Linear(n_embd, 3 * n_embd, bias=False)
        self.c_proj = nn.Linear(n_embd, n_embd, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd), nn.Dropout(dropout)
        )

    def attend(self, x):
        B, T, C = x.size()
        q, k, v = (part.view(B, T, n_head, C // n_head).transpose(1, 2) for part in self.c_attn(x).split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout if self.training else 0.0, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))

    def forward(self, x):
        x = x + self.attend(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.wpe = nn.Embedding(block_size, n_embd)
        self.drop = nn.Dropout(dropout)
        self.h = nn.ModuleList([Block() for _ in range(n_layer)])
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.apply(self._init_weights)
        self.lm_head.weight = self.wte.weight

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx, targets=None):
        x = self.drop(self.wte(idx) + self.wpe(torch.arange(idx.size(1), device=idx.device)))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))
        return logits, loss

    @torch.no_grad()
    def generate(self, idx, new_tokens):
        for _ in range(new_tokens):
            logits, _ = self(idx[:, -block_size:])
            probs = F.softmax(logits[:, -1, :], dim=-1)
            idx = torch.cat((idx, torch.multinomial(probs, num_samples=1)), dim=1)
        return idx


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    left = max_iters - it
    if left > decay_iters:
        return learning_rate
    return min_lr + (learning_rate - min_lr) * left / decay_iters


@torch.no_grad()
def evaluate(model):
    """Mean loss over all of the validation text, in windows one after the other."""
    model.eval()
    n = (len(val_data) - 1) // block_size
    x = val_data[: n * block_size].view(n, block_size)
    y = val_data[1 : n * block_size + 1].view(n, block_size)
    _, loss = model(x, y)
    model.train()
    return loss.item()


model = GPT(len(chars))
decay = [p for p in model.parameters() if p.dim() >= 2]
no_decay = [p for p in model.parameters() if p.dim() < 2]
optimizer = torch.optim.AdamW(
    [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}],
    lr=learning_rate,
    betas=(beta1, beta2),
)

if __name__ == "__main__":
    best_val_loss = float("inf")
    checkpoint = os.path.join(tempfile.mkdtemp(), "ckpt.pt")
    model.train()
    for it in range(max_iters):
        for group in optimizer.param_groups:
            group["lr"] = get_lr(it)
        train_loss = 0.0
        for micro_step in range(grad_accum):
            x, y = get_batch()
            _, loss = model(x, y)
            (loss / grad_accum).backward()
            train_loss += loss.item() / grad_accum
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (it + 1) % eval_interval == 0:
            val_loss = evaluate(model)
            print(f"iter {it + 1}: train {train_loss:.4f}, val {val_loss:.4f} ({val_loss / math.log(2):.3f} bits)")
            if val_loss < best_val_loss:
                best_val_loss = val_loss
                torch.save(model.state_dict(), checkpoint)

    model.load_state_dict(torch.load(checkpoint))
    model.eval()
    sample = model.generate(torch.tensor([[stoi["\n"]]]), 120)
    print("".join(chars[i] for i in sample[0].tolist()))
