"""A character-level language model, in the manner of karpathy/minGPT."""
import math
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import text


@dataclass
class Config:
    block_size: int = 64
    stride: int = 8
    n_layer: int = 2
    n_head: int = 4
    n_embd: int = 64
    dropout: float = 0.1
    batch_size: int = 32
    max_epochs: int = 6
    learning_rate: float = 3e-3
    warmup: int = 20
    weight_decay: float = 0.1
    grad_norm_clip: float = 1.0
    seed: int = 3407


class CharDataset(Dataset):
    """Windows of block_size + 1 characters of one stretch of text."""

    def __init__(self, data, block_size, stride):
        self.data, self.block_size = data, block_size
        self.starts = range(0, len(data) - block_size, stride)

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, idx):
        start = self.starts[idx]
        chunk = self.data[start : start + self.block_size + 1]
        return chunk[:-1], chunk[1:]


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.n_head, self.dropout = c.n_head, c.dropout
        self.ln_1, self.ln_2 = nn.LayerNorm(c.n_embd), nn.LayerNorm(c.n_embd)
        self.c_attn = nn.Linear(c.n_embd, 3 * c.n_embd)
        self.c_proj = nn.Linear(c.n_embd, c.n_embd)
        self.mlp = nn.Sequential(
            nn.Linear(c.n_embd, 4 * c.n_embd), nn.GELU(), nn.Linear(4 * c.n_embd, c.n_embd), nn.Dropout(c.dropout)
        )

    def attend(self, x):
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)
        q, k, v = (t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for t in (q, k, v))
        p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))

    def forward(self, x):
        x = x + self.attend(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, c, vocab_size):
        super().__init__()
        self.block_size = c.block_size
        self.wte = nn.Embedding(vocab_size, c.n_embd)
        self.wpe = nn.Embedding(c.block_size, c.n_embd)
        self.drop = nn.Dropout(c.dropout)
        self.h = nn.ModuleList(Block(c) for _ in range(c.n_layer))
        self.ln_f = nn.LayerNorm(c.n_embd)
        self.lm_head = nn.Linear(c.n_embd, vocab_size, bias=False)
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.05)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx, targets=None):
        pos = torch.arange(idx.size(1), device=idx.device)
        x = self.drop(self.wte(idx) + self.wpe(pos))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.reshape(-1, logits.size(-1)), targets.reshape(-1))
        return logits, loss

    @torch.no_grad()
    def generate(self, idx, count):
        for _ in range(count):
            logits, _ = self(idx[:, -self.block_size :])
            probs = F.softmax(logits[:, -1], dim=-1)
            idx = torch.cat([idx, torch.multinomial(probs, 1)], dim=1)
        return idx


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    total, count = 0.0, 0
    for x, y in loader:
        _, loss = model(x, y)
        total += loss.item() * len(x)
        count += len(x)
    model.train()
    return total / count


def main():
    c = Config()
    torch.manual_seed(c.seed)
    raw = text(12000)
    chars = sorted(set(raw))
    stoi = {ch: i for i, ch in enumerate(chars)}
    data = torch.tensor([stoi[ch] for ch in raw], dtype=torch.long)
    cut = int(0.9 * len(data))
    train_loader = DataLoader(CharDataset(data[:cut], c.block_size, c.stride), batch_size=c.batch_size, shuffle=True)
    val_loader = DataLoader(CharDataset(data[cut:], c.block_size, c.block_size), batch_size=c.batch_size)

    model = GPT(c, len(chars))
    decay = [p for p in model.parameters() if p.dim() >= 2]
    no_decay = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": c.weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=c.learning_rate, betas=(0.9, 0.95))
    total = c.max_epochs * len(train_loader)

    step = 0
    for epoch in range(c.max_epochs):
        for x, y in train_loader:
            progress = max(0, step - c.warmup) / max(1, total - c.warmup)
            lr = c.learning_rate * min(1.0, (step + 1) / c.warmup) * (0.55 + 0.45 * math.cos(math.pi * progress))
            for group in optimizer.param_groups:
                group["lr"] = lr
            _, loss = model(x, y)
            model.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), c.grad_norm_clip)
            optimizer.step()
            step += 1
        print(f"epoch {epoch + 1} train loss {loss.item():.4f} val loss {evaluate(model, val_loader):.4f}")

    model.eval()
    start = torch.tensor([[stoi["t"]]])
    print("".join(chars[i] for i in model.generate(start, 100)[0].tolist()))


if __name__ == "__main__":
    main()
