"""
Character-level GPT in the spirit of nanoGPT's train.py, on a generated language.
$ python dev8_h_nanogpt.py --max_iters=600
"""
import argparse
import math
import os
import pickle
import random
import tempfile
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
from torch.nn import functional as F

defaults = dict(
    eval_interval=100, eval_iters=15, gradient_accumulation_steps=4, batch_size=4, block_size=48,
    n_layer=2, n_head=4, n_embd=64, dropout=0.1, learning_rate=3e-3, max_iters=350, weight_decay=1e-1,
    grad_clip=1.0, warmup_iters=30, lr_decay_iters=350, min_lr=3e-4, seed=1337,
)
parser = argparse.ArgumentParser()
for name, value in defaults.items():
    parser.add_argument(f"--{name}", type=type(value), default=value)
cfg = parser.parse_args()

torch.set_num_threads(1)
torch.manual_seed(cfg.seed)
out_dir = tempfile.mkdtemp(prefix="out-toy-char-")

# ----------------------------------------------------------------------------- prepare.py
lexicon_rng = random.Random(7)
def make_word():
    return "".join(lexicon_rng.choice("bdfgklmnprstvz") + lexicon_rng.choice("aeiou") for _ in range(lexicon_rng.randint(1, 3)))
NOUNS, VERBS, ADJS = [sorted({make_word() for _ in range(20)}) for _ in range(3)]
LEXICON = set(NOUNS) | set(VERBS) | set(ADJS) | {"the", "a", "and"}

def make_line(rng):
    np_ = lambda: [rng.choice(["the", "a"])] + ([rng.choice(ADJS)] if rng.random() < 0.4 else []) + [rng.choice(NOUNS)]
    words = np_() + [rng.choice(VERBS)] + np_()
    if rng.random() < 0.3:
        words += ["and", rng.choice(VERBS)] + np_()
    return " ".join(words) + ".\n"

text_rng = random.Random(cfg.seed)
text = "".join(make_line(text_rng) for _ in range(8000))
chars = sorted(set(text))
stoi = {ch: i for i, ch in enumerate(chars)}
itos = {i: ch for i, ch in enumerate(chars)}
ids = np.array([stoi[c] for c in text], dtype=np.uint16)
n = len(ids)
ids[: int(n * 0.9)].tofile(os.path.join(out_dir, "train.bin"))
ids[int(n * 0.9):].tofile(os.path.join(out_dir, "val.bin"))
with open(os.path.join(out_dir, "meta.pkl"), "wb") as f:
    pickle.dump({"vocab_size": len(chars), "itos": itos, "stoi": stoi}, f)

def get_batch(split):
    data = np.memmap(os.path.join(out_dir, f"{split}.bin"), dtype=np.uint16, mode="r")
    ix = torch.randint(len(data) - cfg.block_size, (cfg.batch_size,))
    x = torch.stack([torch.from_numpy(data[i:i + cfg.block_size].astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy(data[i + 1:i + 1 + cfg.block_size].astype(np.int64)) for i in ix])
    return x, y

# ----------------------------------------------------------------------------- model.py
class CausalSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.dropout)
        self.n_head, self.n_embd, self.dropout = config.n_head, config.n_embd, config.dropout
    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        q, k, v = (t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        return self.resid_dropout(self.c_proj(y))

class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(config.n_embd), nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.mlp = nn.Sequential(nn.Linear(config.n_embd, 4 * config.n_embd), nn.GELU(),
                                 nn.Linear(4 * config.n_embd, config.n_embd), nn.Dropout(config.dropout))
    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))

class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.wte.weight = self.lm_head.weight  # https://paperswithcode.com/method/weight-tying
        self.apply(self._init_weights)
        for pn, p in self.named_parameters():
            if pn.endswith("c_proj.weight"):
                nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(2 * config.n_layer))
    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    def forward(self, idx, targets=None):
        pos = torch.arange(0, idx.size(1), dtype=torch.long)
        x = self.drop(self.wte(idx) + self.wpe(pos))
        for block in self.h:
            x = block(x)
        x = self.ln_f(x)
        if targets is None:
            return self.lm_head(x[:, [-1], :]), None
        logits = self.lm_head(x)
        loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
        return logits, loss
    def configure_optimizers(self, weight_decay, learning_rate, betas):
        params = {pn: p for pn, p in self.named_parameters() if p.requires_grad}
        optim_groups = [
            {"params": [p for p in params.values() if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for p in params.values() if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(optim_groups, lr=learning_rate, betas=betas)
    @torch.no_grad()
    def generate(self, idx, max_new_tokens, temperature=0.8):
        for _ in range(max_new_tokens):
            logits, _ = self(idx[:, -self.config.block_size:])
            probs = F.softmax(logits[:, -1, :] / temperature, dim=-1)
            idx = torch.cat((idx, torch.multinomial(probs, num_samples=1)), dim=1)
        return idx

# ----------------------------------------------------------------------------- train.py
with open(os.path.join(out_dir, "meta.pkl"), "rb") as f:
    meta = pickle.load(f)
model = GPT(SimpleNamespace(**vars(cfg), vocab_size=meta["vocab_size"]))
optimizer = model.configure_optimizers(cfg.weight_decay, cfg.learning_rate, (0.9, 0.99))

@torch.no_grad()
def estimate_loss():
    out = {}
    model.eval()
    for split in ["train", "val"]:
        losses = torch.zeros(cfg.eval_iters)
        for k in range(cfg.eval_iters):
            X, Y = get_batch(split)
            _, loss = model(X, Y)
            losses[k] = loss.item()
        out[split] = losses.mean()
    model.train()
    return out

def get_lr(it):
    if it < cfg.warmup_iters:
        return cfg.learning_rate * (it + 1) / (cfg.warmup_iters + 1)
    if it > cfg.lr_decay_iters:
        return cfg.min_lr
    decay_ratio = (it - cfg.warmup_iters) / (cfg.lr_decay_iters - cfg.warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * decay_ratio))
    return cfg.min_lr + coeff * (cfg.learning_rate - cfg.min_lr)

X, Y = get_batch("train")
best_val_loss = 1e9
for iter_num in range(cfg.max_iters + 1):
    lr = get_lr(iter_num)
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr
    if iter_num % cfg.eval_interval == 0:
        losses = estimate_loss()
        print(f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
        if losses["val"] < best_val_loss:
            best_val_loss = losses["val"]
            torch.save({"model": model.state_dict(), "iter_num": iter_num}, os.path.join(out_dir, "ckpt.pt"))
    for micro_step in range(cfg.gradient_accumulation_steps):
        logits, loss = model(X, Y)
        loss = loss / cfg.gradient_accumulation_steps
        X, Y = get_batch("train")
        loss.backward()
    if cfg.grad_clip != 0.0:
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

# sample.py
checkpoint = torch.load(os.path.join(out_dir, "ckpt.pt"))
model.load_state_dict(checkpoint["model"])
model.eval()
sample = model.generate(torch.full((8, 1), stoi["\n"]), max_new_tokens=120)
decoded = "".join("".join(meta["itos"][i] for i in row.tolist()) for row in sample)
words = decoded.replace(".", " ").split()
known = sum(w in LEXICON for w in words) / max(1, len(words))
print(decoded[:240])
print(f"best val loss {best_val_loss:.4f} known words {known:.3f} of {len(words)} lines {decoded.count(chr(10))}")
