"""Tagging spans with a GRU and a linear-chain CRF, on batches of sentences of like length, with Accelerate."""

import math
import random

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Sampler

OUTSIDE, BEGIN, INSIDE = 0, 1, 2
PADDING, VOCABULARY = 0, 14


def make_corpus(count, seed):
    """Words 11, 12 and 13 open spans of 2, 3 and 4 words; all other words are the same inside and outside."""
    rng = random.Random(seed)
    corpus = []
    for _ in range(count):
        length = rng.randint(6, 16)
        words, tags = [], []
        while len(words) < length:
            if rng.random() < 0.25:
                span = rng.randint(2, 4)
                words += [9 + span] + [rng.randint(1, 10) for _ in range(span - 1)]
                tags += [BEGIN] + [INSIDE] * (span - 1)
            else:
                words.append(rng.randint(1, 10))
                tags.append(OUTSIDE)
        corpus.append((torch.tensor(words[:length]), torch.tensor(tags[:length])))
    return corpus


def collate(sentences):
    words, tags = zip(*sentences)
    return {
        "words": pad_sequence(words, batch_first=True, padding_value=PADDING),
        "tags": pad_sequence(tags, batch_first=True, padding_value=OUTSIDE),
        "lengths": torch.tensor([len(sentence) for sentence in words]),
    }


class BucketBatchSampler(Sampler):
    """Shuffles, sorts pools of a few batches by length, and gives the batches of all pools in random order."""

    def __init__(self, lengths, batch_size, pool=8):
        self.lengths, self.batch_size, self.pool = lengths, batch_size, pool
        self.drop_last = False

    def __len__(self):
        return math.ceil(len(self.lengths) / self.batch_size)

    def __iter__(self):
        order = torch.randperm(len(self.lengths)).tolist()
        batches = []
        for start in range(0, len(order), self.batch_size * self.pool):
            bucket = sorted(order[start : start + self.batch_size * self.pool], key=lambda i: self.lengths[i])
            batches += [bucket[i : i + self.batch_size] for i in range(0, len(bucket), self.batch_size)]
        random.shuffle(batches)
        yield from batches


class Tagger(nn.Module):
    def __init__(self, tags=3, embedding=16, hidden=32):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, embedding, padding_idx=PADDING)
        self.rnn = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.emit = nn.Linear(2 * hidden, tags)
        self.start, self.end = nn.Parameter(torch.zeros(tags)), nn.Parameter(torch.zeros(tags))
        self.transition = nn.Parameter(torch.zeros(tags, tags))

    def emissions(self, words, lengths):
        packed = pack_padded_sequence(self.embed(words), lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=words.shape[1])
        mask = torch.arange(words.shape[1], device=words.device) < lengths[:, None]
        return self.emit(states), mask

    def forward(self, words, lengths, tags):
        """The negative log-likelihood of the tags, a token."""
        emissions, mask = self.emissions(words, lengths)
        single = emissions.gather(2, tags.unsqueeze(2)).squeeze(2)
        pair = self.transition[tags[:, :-1], tags[:, 1:]]
        last = tags.gather(1, lengths[:, None] - 1).squeeze(1)
        gold = self.start[tags[:, 0]] + (single * mask).sum(1) + (pair * mask[:, 1:]).sum(1) + self.end[last]

        alpha = self.start + emissions[:, 0]
        for t in range(1, words.shape[1]):
            paths = alpha.unsqueeze(2) + self.transition + emissions[:, t].unsqueeze(1)
            alpha = torch.where(mask[:, t : t + 1], paths.logsumexp(dim=1), alpha)
        partition = (alpha + self.end).logsumexp(dim=1)
        return (partition - gold).sum() / lengths.sum()

    @torch.no_grad()
    def decode(self, words, lengths):
        """The best path (Viterbi); behind the end of a sentence its last tag is repeated."""
        emissions, mask = self.emissions(words, lengths)
        score, pointers = self.start + emissions[:, 0], []
        for t in range(1, words.shape[1]):
            best, previous = (score.unsqueeze(2) + self.transition).max(dim=1)
            inside = mask[:, t : t + 1]
            stay = torch.arange(score.shape[1], device=score.device).expand_as(previous)
            score = torch.where(inside, best + emissions[:, t], score)
            pointers.append(torch.where(inside, previous, stay))
        tag = (score + self.end).argmax(dim=1)
        path = [tag]
        for previous in reversed(pointers):
            tag = previous.gather(1, tag[:, None]).squeeze(1)
            path.append(tag)
        return torch.stack(path[::-1], dim=1), mask


def evaluate(model, loader):
    model.eval()
    right = tokens = exact = sentences = 0
    for batch in loader:
        path, mask = model.decode(batch["words"], batch["lengths"])
        agree = path == batch["tags"]
        right += (agree & mask).sum().item()
        tokens += mask.sum().item()
        exact += (agree | ~mask).all(dim=1).sum().item()
        sentences += len(path)
    return right / tokens, exact / sentences


def main():
    set_seed(2)
    accelerator = Accelerator(cpu=True)
    train, dev = make_corpus(800, seed=0), make_corpus(200, seed=1)
    sampler = BucketBatchSampler([len(words) for words, _ in train], batch_size=32)
    train_loader = DataLoader(train, batch_sampler=sampler, collate_fn=collate)
    dev_loader = DataLoader(dev, batch_size=100, collate_fn=collate)

    epochs = 10
    model = Tagger()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=epochs * len(train_loader))
    model, optimizer, train_loader, dev_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, dev_loader, scheduler
    )
    for epoch in range(epochs):
        model.train()
        losses = []
        for batch in train_loader:
            loss = model(batch["words"], batch["lengths"], batch["tags"])
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        by_token, by_sentence = evaluate(accelerator.unwrap_model(model), dev_loader)
        accelerator.print(f"{epoch + 1:2d}: loss {sum(losses) / len(losses):.3f} tags {by_token:.3f} sentences {by_sentence:.3f}")


if __name__ == "__main__":
    main()
