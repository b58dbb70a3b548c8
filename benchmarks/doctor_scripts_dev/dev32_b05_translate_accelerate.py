"""A small transformer that translates toy English to toy French; trained with Accelerate."""

import random

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader

DETS = {"the": "le", "a": "un"}
ADJECTIVES = {"red": "rouge", "black": "noir", "old": "vieux", "small": "petit", "sad": "triste", "white": "blanc"}
ANIMALS = {"cat": "chat", "dog": "chien", "bird": "oiseau", "fish": "poisson", "horse": "cheval", "wolf": "loup"}
VERBS = {"sees": "voit", "eats": "mange", "likes": "aime", "takes": "prend", "wants": "veut"}
THINGS = {"bread": "pain", "cheese": "fromage", "cake": "gateau", "stick": "baton", "ball": "ballon", "shoe": "soulier"}
ADVERBS = {"today": "aujourd'hui", "often": "souvent", "now": "maintenant"}
TABLES = (DETS, ADJECTIVES, ANIMALS, VERBS, THINGS, ADVERBS)
PAD, BOS, EOS = 0, 1, 2
SPECIAL = ["<pad>", "<bos>", "<eos>"]
SOURCE = {w: i for i, w in enumerate(SPECIAL + [w for table in TABLES for w in table])}
TARGET = {w: i for i, w in enumerate(SPECIAL + [w for table in TABLES for w in table.values()])}


def make_pair(rng):
    english, french = [], []
    for nouns in (ANIMALS, THINGS):
        det, noun = rng.choice(list(DETS)), rng.choice(list(nouns))
        adjective = [rng.choice(list(ADJECTIVES))] if rng.random() < 0.6 else []
        english += [det, *adjective, noun]
        french += [DETS[det], nouns[noun]] + [ADJECTIVES[word] for word in adjective]  # the adjective comes after
        if nouns is ANIMALS:
            verb = rng.choice(list(VERBS))
            english.append(verb)
            french.append(VERBS[verb])
    if rng.random() < 0.5:
        adverb = rng.choice(list(ADVERBS))
        english.append(adverb)
        french.insert(0, ADVERBS[adverb])  # and the adverb in front
    return tuple(SOURCE[w] for w in english), (BOS, *(TARGET[w] for w in french), EOS)


def collate(pairs):
    def pad(rows):
        rows = [torch.tensor(row) for row in rows]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)

    return pad([source for source, _ in pairs]), pad([target for _, target in pairs])


class Translator(nn.Module):
    def __init__(self, dim=64, heads=4, layers=2, longest=16):
        super().__init__()
        self.source_embed = nn.Embedding(len(SOURCE), dim)
        self.target_embed = nn.Embedding(len(TARGET), dim)
        self.position = nn.Embedding(longest, dim)
        self.transformer = nn.Transformer(
            dim, heads, layers, layers, dim_feedforward=128, dropout=0.1, batch_first=True, norm_first=True
        )
        self.out = nn.Linear(dim, len(TARGET))

    def embed(self, table, ids):
        return table(ids) + self.position.weight[: ids.size(1)]

    def forward(self, source, target):
        length = target.size(1)
        future = torch.triu(torch.ones(length, length, dtype=torch.bool), diagonal=1)
        source_pad = source == PAD
        states = self.transformer(
            self.embed(self.source_embed, source),
            self.embed(self.target_embed, target),
            tgt_mask=future,
            src_key_padding_mask=source_pad,
            memory_key_padding_mask=source_pad,
        )
        return self.out(states)


@torch.no_grad()
def translate(model, source, longest=11):
    output = torch.full((len(source), 1), BOS)
    for _ in range(longest):
        logits = model(source, output)
        output = torch.cat([output, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return output[:, 1:]


def until_end(row):
    row = row.tolist()
    return row[: row.index(EOS)] if EOS in row else row


def exact_match(model, loader):
    model.eval()
    right = total = 0
    for source, target in loader:
        for found, wanted in zip(translate(model, source), target[:, 1:]):
            right += until_end(found) == until_end(wanted)
            total += 1
    return right / total


def main(epochs=20):
    set_seed(4)
    rng = random.Random(4)
    pairs = list(dict.fromkeys(make_pair(rng) for _ in range(4600)))
    valid_pairs, train_pairs = pairs[:300], pairs[300:]
    train_loader = DataLoader(train_pairs, batch_size=64, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_pairs, batch_size=100, collate_fn=collate)

    accelerator = Accelerator(cpu=True)
    model = Translator()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss(ignore_index=PAD)
    model, optimizer, train_loader, valid_loader = accelerator.prepare(model, optimizer, train_loader, valid_loader)

    for epoch in range(epochs):
        model.train()
        total = 0.0
        for source, target in train_loader:
            logits = model(source, target[:, :-1])
            loss = criterion(logits.flatten(0, 1), target[:, 1:].flatten())
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        score = exact_match(model, valid_loader)
        accelerator.print(f"epoch {epoch}: loss {total / len(train_loader):.4f}, exact match {score:.3f}")


if __name__ == "__main__":
    main()
