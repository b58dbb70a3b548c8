"""Assignment 4, part 2: an encoder-decoder transformer that puts letters into alphabetical order ("gckb" -> "bcgk")."""

import random

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

torch.backends.mha.set_fastpath_enabled(False)

PAD, BOS, EOS = 0, 1, 2
LETTERS = "abcdefghijkl"
VOCAB_SIZE = 3 + len(LETTERS)
MAX_LEN = 10


def encode(word):
    return [3 + LETTERS.index(c) for c in word]


def make_words(count, seed):
    rng = random.Random(seed)
    words = set()
    while len(words) < count:
        words.add("".join(rng.sample(LETTERS, rng.randint(3, 7))))
    words = sorted(words)
    rng.shuffle(words)
    return words


def collate(words):
    src = [torch.tensor(encode(w) + [EOS]) for w in words]
    tgt = [torch.tensor([BOS] + encode(sorted(w)) + [EOS]) for w in words]
    return pad_sequence(src, batch_first=True, padding_value=PAD), pad_sequence(tgt, batch_first=True, padding_value=PAD)


class Sorter(nn.Module):
    def __init__(self, d_model=64, nhead=4, layers=2, ff=128, dropout=0.0):
        super().__init__()
        self.embed = nn.Embedding(VOCAB_SIZE, d_model)
        self.pos = nn.Parameter(0.1 * torch.randn(MAX_LEN, d_model))
        self.transformer = nn.Transformer(
            d_model, nhead, layers, layers, dim_feedforward=ff, dropout=dropout, batch_first=True, norm_first=True
        )
        self.generator = nn.Linear(d_model, VOCAB_SIZE)

    def forward(self, src, tgt):
        src_pad_mask = src == PAD
        tgt_pad_mask = tgt == PAD
        length = tgt.size(1)
        causal = torch.triu(torch.ones(length, length, dtype=torch.bool, device=tgt.device), diagonal=1)
        hidden = self.transformer(
            self.embed(src) + self.pos[: src.size(1)],
            self.embed(tgt) + self.pos[:length],
            tgt_mask=causal,
            src_key_padding_mask=src_pad_mask,
            tgt_key_padding_mask=tgt_pad_mask,
            memory_key_padding_mask=src_pad_mask,
        )
        return self.generator(hidden)


@torch.no_grad()
def greedy_decode(model, src, steps):
    out = torch.full((src.size(0), 1), BOS, dtype=torch.long, device=src.device)
    for _ in range(steps):
        logits = model(src, out)
        out = torch.cat([out, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return out


def evaluate(model, loader):
    """Share of the words that are sorted without any mistake."""
    model.eval()
    hits = 0
    for src, tgt in loader:
        out = greedy_decode(model, src, tgt.size(1) - 1)
        right = (out == tgt) | (tgt == PAD)
        hits += right.all(dim=1).sum().item()
    return hits / len(loader.dataset)


def main():
    torch.manual_seed(4)
    batch_size, epochs, lr = 64, 20, 1e-3
    words = make_words(2300, seed=0)
    train_words, valid_words = words[:2000], words[2000:]
    train_loader = DataLoader(train_words, batch_size=batch_size, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_words, batch_size=batch_size, collate_fn=collate)

    accelerator = Accelerator(cpu=True)
    model = Sorter()
    criterion = nn.CrossEntropyLoss(ignore_index=PAD)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.98))
    warmup, total = 40, epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.05, (total - step) / (total - warmup)))
    )
    model, optimizer, train_loader, valid_loader = accelerator.prepare(model, optimizer, train_loader, valid_loader)

    for epoch in range(1, epochs + 1):
        model.train()
        loss_sum, batches = 0.0, 0
        for src, tgt in train_loader:
            tgt_in, tgt_out = tgt[:, :-1], tgt[:, 1:]
            logits = model(src, tgt_in)
            loss = criterion(logits.reshape(-1, VOCAB_SIZE), tgt_out.reshape(-1))
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            loss_sum += loss.item()
            batches += 1
        if epoch % 4 == 0:
            accelerator.print(f"epoch {epoch:2d}: loss {loss_sum / batches:.4f}, words right {100 * evaluate(model, valid_loader):.1f}%")

    src, tgt = collate(valid_words[:4])
    out = greedy_decode(model, src, tgt.size(1) - 1)
    for word, row in zip(valid_words, out.tolist()):
        row = row[1 : row.index(EOS)] if EOS in row else row[1:]
        print(word, "->", "".join(LETTERS[i - 3] for i in row if i >= 3))


if __name__ == "__main__":
    main()
