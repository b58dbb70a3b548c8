"""Character-level GPT in one file, after nanoGPT."""

import math

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import text

config = dict(
    block_size=48,
    batch_size=32,
    grad_accum=1,
    n_layer=2,
    n_head=4,
    n_embd=64,
    dropout=0.1,
    learning_rate=2e-3,
    min_lr=2e-5,
    weight_decay=0.1,
    grad_clip=1.0,
    max_iters=360,
    warmup_iters=30,
    lr_decay_iters=360,
    eval_interval=90,
)


class CausalSelfAttention(nn.Module):
    def __init__(self, n_embd, n_head, block_size, dropout):
        super().__init__()
        self.n_head = n_head
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)
        self.attn_dropout, self.resid_dropout = nn.Dropout(dropout), nn.Dropout(dropout)
        self.register_buffer("mask", torch.tril(torch.ones(block_size, block_size)).view(1, 1, block_size, block_size))

    def forward(self, x):
        B, T, C = x.shape
        qkv = self.c_attn(x).split(C, dim=2)
        q, k, v = (t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for t in qkv)
        att = (q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))
        att = att.masked_fill(self.mask[:, :, :T, :T] == 0, float("-inf"))
        att = self.attn_dropout(F.softmax(att, dim=-1))
        y = (att @ v).transpose(1, 2).contiguous().view(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class Block(nn.Module):
    def __init__(self, n_embd, n_head, block_size, dropout):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.attn = CausalSelfAttention(n_embd, n_head, block_size, dropout)
        self.mlp = nn.Sequential(
            nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd), nn.Dropout(dropout)
        )

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, vocab_size, block_size, n_layer, n_head, n_embd, dropout):
        super().__init__()
        self.block_size = block_size
        self.wte, self.wpe = nn.Embedding(vocab_size, n_embd), nn.Embedding(block_size, n_embd)
        self.drop = nn.Dropout(dropout)
        self.h = nn.Sequential(*[Block(n_embd, n_head, block_size, dropout) for _ in range(n_layer)])
        self.ln_f = nn.LayerNorm(n_embd)
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx, targets=None):
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1)))
        logits = self.lm_head(self.ln_f(self.h(self.drop(x))))
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))

    @torch.no_grad()
    def generate(self, idx, max_new_tokens, temperature=0.8):
        for _ in range(max_new_tokens):
            logits, _ = self(idx[:, -self.block_size :])
            probs = F.softmax(logits[:, -1].float() / temperature, dim=-1)
            idx = torch.cat([idx, torch.multinomial(probs, 1)], dim=1)
        return idx


def get_batch(data):
    ix = torch.randint(len(data) - config["block_size"], (config["batch_size"],))
    x = torch.stack([data[i : i + config["block_size"]] for i in ix])
    y = torch.stack([data[i + 1 : i + 1 + config["block_size"]] for i in ix])
    return x, y


@torch.no_grad()
def evaluate(model, data, max_blocks=120):
    """Loss and next-character accuracy over consecutive blocks."""
    model.eval()
    n = min((len(data) - 1) // config["block_size"], max_blocks) * config["block_size"]
    x, y = data[:n].view(-1, config["block_size"]), data[1 : n + 1].view(-1, config["block_size"])
    logits, loss = model(x, y)
    model.train()
    return loss.item(), (logits.argmax(-1) == y).float().mean().item()


def get_lr(it):
    if it < config["warmup_iters"]:
        return config["learning_rate"] * (it + 1) / config["warmup_iters"]
    if it > config["lr_decay_iters"]:
        return config["min_lr"]
    ratio = (it - config["warmup_iters"]) / (config["lr_decay_iters"] - config["warmup_iters"])
    return config["min_lr"] + 0.5 * (1 + math.cos(math.pi * ratio)) * (config["learning_rate"] - config["min_lr"])


def configure_optimizer(model):
    decay = {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": config["weight_decay"]}
    no_decay = {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}
    return torch.optim.AdamW([decay, no_decay], lr=config["learning_rate"], betas=(0.9, 0.99))


def train():
    torch.manual_seed(1337)
    corpus = text(60000, seed=5)
    chars = sorted(set(corpus))
    stoi = {c: i for i, c in enumerate(chars)}
    data = torch.tensor([stoi[c] for c in corpus])
    train_data, val_data = data[:54000], data[54000:]
    sizes = {k: config[k] for k in ("block_size", "n_layer", "n_head", "n_embd", "dropout")}
    model = GPT(len(chars), **sizes)
    optimizer = configure_optimizer(model)

    for it in range(config["max_iters"]):
        for group in optimizer.param_groups:
            group["lr"] = get_lr(it)
        optimizer.zero_grad(set_to_none=True)
        for _ in range(config["grad_accum"]):
            x, y = get_batch(train_data)
            _, loss = model(x, y)
            (loss / config["grad_accum"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config["grad_clip"])
        optimizer.step()
        if (it + 1) % config["eval_interval"] == 0:
            train_loss, _ = evaluate(model, train_data)
            val_loss, val_acc = evaluate(model, val_data)
            print(f"iter {it + 1}: train {train_loss:.4f}, val {val_loss:.4f}, acc {val_acc:.4f}")

    model.eval()
    print("".join(chars[i] for i in model.generate(torch.tensor([[stoi["t"]]]), 120)[0].tolist()))


if __name__ == "__main__":
    train()
