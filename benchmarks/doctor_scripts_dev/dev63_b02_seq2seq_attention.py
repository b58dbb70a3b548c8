"""Sequence to sequence with attention: a toy translation task."""
import math
import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

SEED = 1234
NOUNS = {"cat": "katze", "dog": "hund", "bird": "vogel", "fish": "fisch", "house": "haus", "tree": "baum"}
ADJS = {"big": "gross", "small": "klein", "red": "rot", "old": "alt", "new": "neu"}
VERBS = {"sees": "sieht", "likes": "mag", "finds": "findet", "takes": "nimmt"}
SPECIALS = ["<pad>", "<sos>", "<eos>"]
PAD, SOS, EOS = range(3)


def noun_phrase(rng):
    noun = rng.choice(list(NOUNS))
    adjs = rng.sample(list(ADJS), rng.randint(0, 1))
    return ["the", *adjs, noun], ["das", NOUNS[noun], *(ADJS[adj] for adj in adjs)]


def make_pairs(count, rng):
    """Distinct sentences; nouns come before adjectives in the target language."""
    seen = {}
    while len(seen) < count:
        (src, trg), verb = noun_phrase(rng), rng.choice(list(VERBS))
        src, trg = src + [verb], trg + [VERBS[verb]]
        for i in range(rng.choice([0, 1, 1, 2])):
            src_object, trg_object = noun_phrase(rng)
            src, trg = src + ["and"] * (i > 0) + src_object, trg + ["und"] * (i > 0) + trg_object
        seen[tuple(src)] = tuple(trg)
    return list(seen.items())


def get_split(pairs, split, valid_share=0.15):
    order = list(pairs)
    random.Random(SEED).shuffle(order)
    n_valid = int(len(order) * valid_share)
    return order[:n_valid] if split == "valid" else order[n_valid:]


def build_vocab(sentences):
    words = sorted({word for sentence in sentences for word in sentence})
    return {word: i for i, word in enumerate(SPECIALS + words)}


def make_collate(*vocabs):
    def collate(batch):
        sides = []
        for sentences, vocab in zip(zip(*batch), vocabs):
            ids = [torch.tensor([SOS] + [vocab[word] for word in s] + [EOS]) for s in sentences]
            sides.append(pad_sequence(ids, padding_value=PAD))
        return sides[0], sides[1]
    return collate


class Encoder(nn.Module):
    def __init__(self, input_dim, emb_dim, hid_dim, dropout):
        super().__init__()
        self.embedding = nn.Embedding(input_dim, emb_dim, padding_idx=PAD)
        self.rnn = nn.GRU(emb_dim, hid_dim, bidirectional=True)
        self.fc = nn.Linear(hid_dim * 2, hid_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, src):
        embedded = self.dropout(self.embedding(src))
        lengths = (src != PAD).sum(0)
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, enforce_sorted=False)
        packed_outputs, hidden = self.rnn(packed)
        outputs, _ = nn.utils.rnn.pad_packed_sequence(packed_outputs)
        return outputs, torch.tanh(self.fc(torch.cat((hidden[-2], hidden[-1]), dim=1)))


class Decoder(nn.Module):
    def __init__(self, output_dim, emb_dim, hid_dim, dropout):
        super().__init__()
        self.embedding = nn.Embedding(output_dim, emb_dim)
        self.query = nn.Linear(hid_dim, hid_dim * 2)
        self.rnn = nn.GRUCell(emb_dim + hid_dim * 2, hid_dim)
        self.fc_out = nn.Linear(hid_dim * 3 + emb_dim, output_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inp, hidden, encoder_outputs, mask):
        embedded = self.dropout(self.embedding(inp))
        energy = (encoder_outputs * self.query(hidden).unsqueeze(0)).sum(2) / math.sqrt(encoder_outputs.shape[2])
        a = torch.softmax(energy.masked_fill(mask == 0, -1e10), dim=0)
        weighted = (a.unsqueeze(2) * encoder_outputs).sum(0)
        hidden = self.rnn(torch.cat((embedded, weighted), dim=1), hidden)
        return self.fc_out(torch.cat((hidden, weighted, embedded), dim=1)), hidden


class Seq2Seq(nn.Module):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, src, trg, teacher_forcing_ratio=0.7):
        encoder_outputs, hidden = self.encoder(src)
        outputs, top1, mask = [], None, src != PAD
        for t in range(1, trg.shape[0]):
            teacher_force = t == 1 or random.random() < teacher_forcing_ratio
            inp = trg[t - 1] if teacher_force else top1
            output, hidden = self.decoder(inp, hidden, encoder_outputs, mask)
            outputs.append(output)
            top1 = output.argmax(1)
        return torch.stack(outputs)


def train(model, iterator, optimizer, criterion, clip):
    model.train()
    epoch_loss = 0
    for src, trg in iterator:
        optimizer.zero_grad()
        output = model(src, trg)
        loss = criterion(output.reshape(-1, output.shape[-1]), trg[1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        epoch_loss += loss.item()
    return epoch_loss / len(iterator)


@torch.no_grad()
def evaluate(model, iterator, criterion):
    model.eval()
    total, tokens, right = 0.0, 0, 0
    for src, trg in iterator:
        output = model(src, trg, 0)  # turn off teacher forcing
        gold, count = trg[1:], (trg[1:] != PAD).sum().item()
        total += criterion(output.reshape(-1, output.shape[-1]), gold.reshape(-1)).item() * count
        right += ((output.argmax(2) == gold) & (gold != PAD)).sum().item()
        tokens += count
    return total / tokens, right / tokens


def main():
    random.seed(SEED)
    torch.manual_seed(SEED)
    pairs = make_pairs(1800, random.Random(SEED))
    train_data, valid_data = get_split(pairs, "train"), get_split(pairs, "valid")
    src_vocab, trg_vocab = build_vocab([p[0] for p in train_data]), build_vocab([p[1] for p in train_data])
    collate = make_collate(src_vocab, trg_vocab)
    train_iterator = DataLoader(train_data, batch_size=32, shuffle=True, collate_fn=collate)
    valid_iterator = DataLoader(valid_data, batch_size=64, collate_fn=collate)

    model = Seq2Seq(Encoder(len(src_vocab), 32, 48, 0.1), Decoder(len(trg_vocab), 32, 48, 0.1))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss(ignore_index=PAD)

    for epoch in range(8):
        train_loss = train(model, train_iterator, optimizer, criterion, clip=1.0)
        valid_loss, accuracy = evaluate(model, valid_iterator, criterion)
        print(f"Epoch: {epoch + 1:02} | Train Loss: {train_loss:.3f} | Train PPL: {math.exp(train_loss):7.3f}")
        print(f"\t Val. Loss: {valid_loss:.3f} |  Val. PPL: {math.exp(valid_loss):7.3f} | Token acc: {accuracy:.3f}")


if __name__ == "__main__":
    main()
