"""A tiny GPT that learns to write sentences character by character."""

import argparse
import math

import torch
from torch import nn
from torch.nn import functional as F

from toydata import text


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--eval-every", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--block", type=int, default=48)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1337)
    return parser.parse_args()


class CausalSelfAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.heads, C // self.heads).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(B, T, C))


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = CausalSelfAttention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, vocab_size, block, dim, heads, layers):
        super().__init__()
        self.block = block
        self.token = nn.Embedding(vocab_size, dim)
        self.position = nn.Embedding(block, dim)
        self.blocks = nn.ModuleList([Block(dim, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocab_size, bias=False)
        self.apply(self.init_weights)

    @staticmethod
    def init_weights(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, tokens):
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    @torch.no_grad()
    def generate(self, tokens, count):
        for _ in range(count):
            logits = self(tokens[:, -self.block :])[:, -1]
            tokens = torch.cat([tokens, torch.multinomial(logits.softmax(-1), 1)], dim=1)
        return tokens


def get_batch(data, batch_size, block):
    starts = torch.randint(len(data) - block, (batch_size,))
    x = torch.stack([data[i : i + block] for i in starts.tolist()])
    y = torch.stack([data[i + 1 : i + block + 1] for i in starts.tolist()])
    return x, y


@torch.no_grad()
def evaluate(model, data, block):
    """Loss in nats a character and accuracy over the whole held-out text."""
    model.eval()
    count = (len(data) - 1) // block
    inputs, targets = data[: count * block].view(count, block), data[1 : count * block + 1].view(count, block)
    loss, right = 0.0, 0
    for x, y in zip(inputs.split(64), targets.split(64)):
        logits = model(x)
        loss += F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
        right += (logits.argmax(-1) == y).sum().item()
    model.train()
    return loss / targets.numel(), right / targets.numel()


def main():
    args = parse_args()
    torch.manual_seed(args.seed)

    train_text, valid_text = text(40000, seed=0), text(6000, seed=1)
    characters = sorted(set(train_text))
    index = {character: i for i, character in enumerate(characters)}
    train_data = torch.tensor([index[c] for c in train_text])
    valid_data = torch.tensor([index[c] for c in valid_text])

    model = GPT(len(characters), args.block, args.dim, args.heads, args.layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)

    def factor(step):
        warm = min(1.0, (step + 1) / args.warmup)
        return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / args.steps))))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    model.train()
    running = 0.0
    for step in range(1, args.steps + 1):
        x, y = get_batch(train_data, args.batch_size, args.block)
        logits = model(x)
        loss = F.cross_entropy(logits.transpose(1, 2), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        scheduler.step()
        running += loss.item()
        if step % args.eval_every == 0:
            valid_loss, accuracy = evaluate(model, valid_data, args.block)
            print(
                f"step {step:5d}  train {running / args.eval_every:.3f}  valid {valid_loss:.3f}"
                f"  perplexity {math.exp(valid_loss):.2f}  accuracy {accuracy:.3f}"
            )
            running = 0.0

    sample = model.generate(torch.tensor([[index["t"]]]), 120)[0].tolist()
    print("".join(characters[i] for i in sample))


if __name__ == "__main__":
    main()
