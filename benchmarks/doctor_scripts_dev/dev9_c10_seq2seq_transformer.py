"""Encoder-decoder transformer with padding masks: reverse a variable-length digit string. Noam schedule by LambdaLR."""
import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, IterableDataset

PAD, BOS, EOS, OFF = 0, 1, 2, 3
VOCAB = 10 + OFF


class ReverseStream(IterableDataset):
    """Fresh examples each epoch; a fixed seed gives a frozen test set."""

    def __init__(self, n, seed=None):
        self.n, self.seed, self.longest = n, seed, 7

    def __iter__(self):
        rng = random.Random(self.seed)
        for _ in range(self.n):
            s = [rng.randrange(10) + OFF for _ in range(rng.randint(3, self.longest))]
            yield s, s[::-1]


def collate(pairs):
    src = pad_sequence([torch.tensor(a + [EOS]) for a, _ in pairs], batch_first=True, padding_value=PAD)
    tgt = pad_sequence([torch.tensor([BOS] + b + [EOS]) for _, b in pairs], batch_first=True, padding_value=PAD)
    return (src, (tgt[:, :-1], tgt[:, 1:]))


class Seq2Seq(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, d, padding_idx=PAD)
        self.pos = nn.Embedding(16, d)
        self.tr = nn.Transformer(d, 4, 2, 2, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.gen = nn.Linear(d, VOCAB)
        self.scale = d ** 0.5

    def embed(self, x):
        return self.emb(x) * self.scale + self.pos(torch.arange(x.size(1), device=x.device))

    def forward(self, src, tgt):
        causal = nn.Transformer.generate_square_subsequent_mask(tgt.size(1)).isinf()
        out = self.tr(self.embed(src), self.embed(tgt), tgt_mask=causal, src_key_padding_mask=src == PAD,
                      tgt_key_padding_mask=tgt == PAD, memory_key_padding_mask=src == PAD)
        return self.gen(out)


@torch.no_grad()
def greedy(model, src, max_len=9):
    ys = torch.full((src.size(0), 1), BOS)
    done = torch.zeros(src.size(0), dtype=torch.bool)
    for _ in range(max_len):
        nxt = model(src, ys)[:, -1].argmax(-1).masked_fill(done, PAD)
        ys = torch.cat([ys, nxt[:, None]], 1)
        done |= nxt == EOS
        if done.all():
            break
    return ys[:, 1:]


def exact_match(model, loader):
    model.eval()
    hit = tot = 0
    for src, (_, gold) in loader:
        for hyp, ref in zip(greedy(model, src).tolist(), gold.tolist()):
            hit += hyp[: hyp.index(EOS)] == ref[: ref.index(EOS)] if EOS in hyp else 0
            tot += 1
    return hit / tot


def main():
    torch.manual_seed(0)
    model = Seq2Seq()
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.xavier_uniform_(p)
    with torch.no_grad():
        model.emb.weight.normal_(0, 48 ** -0.5)[PAD].zero_()
    crit = nn.CrossEntropyLoss(ignore_index=PAD, reduction="sum")
    opt = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    warm = 80
    sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: 2e-3 * min((s + 1) / warm, (warm / (s + 1)) ** 0.5))
    train, test = DataLoader(ReverseStream(2880), 64, collate_fn=collate), DataLoader(ReverseStream(200, 99), 50, collate_fn=collate)
    for epoch in range(8):
        model.train()
        train.dataset.longest = min(7, 5 + epoch)  # curriculum; the test set always has all lengths
        loss_sum = ntok = 0
        for src, (tin, tout) in train:
            logits = model(src, tin)
            n = (tout != PAD).sum()
            loss = crit(logits.transpose(1, 2), tout)
            opt.zero_grad()
            (loss / n).backward()
            opt.step()
            sched.step()
            loss_sum, ntok = loss_sum + loss.item(), ntok + n.item()
        print(f"[{epoch}] nll/token {loss_sum / ntok:.3f} exact {exact_match(model, test):.2%} lr {sched.get_last_lr()[0]:.2e}")


if __name__ == "__main__":
    main()
