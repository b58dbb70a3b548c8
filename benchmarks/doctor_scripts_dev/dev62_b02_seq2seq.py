"""Sequence to sequence with attention: a toy language into another (adjectives follow their nouns there)."""

import math
import random
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

PAD, SOS, EOS, UNK = "<pad>", "<sos>", "<eos>", "<unk>"
LEXICON = {
    "the": "le", "a": "un", "dog": "chien", "cat": "chat", "bird": "oiseau", "horse": "cheval",
    "red": "rouge", "white": "blanc", "small": "petit", "old": "vieux", "sees": "voit", "hears": "entend",
}
NOUNS, ADJECTIVES, VERBS = ("dog", "cat", "bird", "horse"), ("red", "white", "small", "old"), ("sees", "hears")

BATCH_SIZE = 32
N_EPOCHS = 9
EMB_DIM = 32
HID_DIM = 64
DROPOUT = 0.1
CLIP = 1.0

def noun_phrase(rng):
    article, noun = rng.choice(("the", "a")), rng.choice(NOUNS)
    if rng.random() < 0.6:
        adjective = rng.choice(ADJECTIVES)
        return [article, adjective, noun], [article, noun, adjective]
    return [article, noun], [article, noun]

def make_pairs(count, seed):
    rng, seen = random.Random(seed), {}
    while len(seen) < count:
        src, order = noun_phrase(rng)
        if rng.random() < 0.7:
            verb = rng.choice(VERBS)
            more_src, more_order = noun_phrase(rng)
            src, order = src + [verb] + more_src, order + [verb] + more_order
        seen[" ".join(src)] = (src, [LEXICON[word] for word in order])
    pairs = list(seen.values())
    rng.shuffle(pairs)
    return pairs

class Vocab:
    def __init__(self, sentences):
        self.itos = [PAD, SOS, EOS, UNK] + sorted({word for sentence in sentences for word in sentence})
        self.stoi = {word: index for index, word in enumerate(self.itos)}

    def __len__(self):
        return len(self.itos)

    def encode(self, sentence):
        ids = [self.stoi.get(word, self.stoi[UNK]) for word in [SOS] + sentence + [EOS]]
        return torch.tensor(ids)

def get_collate_fn(src_vocab, trg_vocab):
    def collate(batch):
        src = [src_vocab.encode(s) for s, _ in batch]
        trg = [trg_vocab.encode(t) for _, t in batch]
        src = pad_sequence(src, batch_first=True, padding_value=src_vocab.stoi[PAD])
        trg = pad_sequence(trg, batch_first=True, padding_value=trg_vocab.stoi[PAD])
        return src, trg

    return collate

class Encoder(nn.Module):
    def __init__(self, input_dim, pad_idx):
        super().__init__()
        self.embedding = nn.Embedding(input_dim, EMB_DIM, padding_idx=pad_idx)
        self.rnn = nn.GRU(EMB_DIM, HID_DIM, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(HID_DIM * 2, HID_DIM)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, src):
        outputs, hidden = self.rnn(self.dropout(self.embedding(src)))
        hidden = torch.tanh(self.fc(torch.cat((hidden[0], hidden[1]), dim=1)))
        return outputs, hidden

class Decoder(nn.Module):
    def __init__(self, output_dim, pad_idx):
        super().__init__()
        self.embedding = nn.Embedding(output_dim, EMB_DIM, padding_idx=pad_idx)
        self.rnn = nn.GRU(EMB_DIM, HID_DIM, batch_first=True)
        self.key = nn.Linear(HID_DIM * 2, HID_DIM)
        self.fc_out = nn.Linear(HID_DIM * 3, output_dim)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, trg, hidden, encoder_outputs, mask):
        states, _ = self.rnn(self.dropout(self.embedding(trg)), hidden.unsqueeze(0))
        energy = torch.bmm(states, self.key(encoder_outputs).transpose(1, 2)) / math.sqrt(HID_DIM)
        energy = energy.masked_fill(mask.unsqueeze(1) == 0, -1e10)
        context = torch.bmm(torch.softmax(energy, dim=2), encoder_outputs)
        return self.fc_out(self.dropout(torch.cat((states, context), dim=2)))

class Seq2Seq(nn.Module):
    def __init__(self, encoder, decoder, src_pad_idx):
        super().__init__()
        self.encoder, self.decoder, self.src_pad_idx = encoder, decoder, src_pad_idx

    def forward(self, src, trg):
        encoder_outputs, hidden = self.encoder(src)
        return self.decoder(trg, hidden, encoder_outputs, src != self.src_pad_idx)

def train(model, iterator, optimizer, criterion):
    model.train()
    epoch_loss = 0
    for src, trg in iterator:
        optimizer.zero_grad()
        output = model(src, trg[:, :-1])
        target = trg[:, 1:]
        loss = criterion(output.reshape(-1, output.shape[-1]), target.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        epoch_loss += loss.item()
    return epoch_loss / len(iterator)

def evaluate(model, iterator, pad_idx):
    model.eval()
    nll, correct, count = 0.0, 0, 0
    with torch.no_grad():
        for src, trg in iterator:
            output, gold = model(src, trg[:, :-1]), trg[:, 1:]
            mask = gold != pad_idx
            nll += nn.functional.cross_entropy(output[mask], gold[mask], reduction="sum").item()
            correct += ((output.argmax(-1) == gold) & mask).sum().item()
            count += mask.sum().item()
    return nll / count, correct / count

def main():
    random.seed(1234)
    torch.manual_seed(1234)
    pairs = make_pairs(1400, seed=3)
    train_pairs, valid_pairs = pairs[:1200], pairs[1200:]
    src_vocab, trg_vocab = Vocab([s for s, _ in train_pairs]), Vocab([t for _, t in train_pairs])
    collate = get_collate_fn(src_vocab, trg_vocab)
    train_iterator = DataLoader(train_pairs, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate)
    valid_iterator = DataLoader(valid_pairs, batch_size=BATCH_SIZE, collate_fn=collate)

    src_pad_idx, trg_pad_idx = src_vocab.stoi[PAD], trg_vocab.stoi[PAD]
    model = Seq2Seq(Encoder(len(src_vocab), src_pad_idx), Decoder(len(trg_vocab), trg_pad_idx), src_pad_idx)
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss(ignore_index=trg_pad_idx)
    for epoch in range(N_EPOCHS):
        start = time.time()
        train_loss = train(model, train_iterator, optimizer, criterion)
        valid_loss, accuracy = evaluate(model, valid_iterator, trg_pad_idx)
        print(f"Epoch: {epoch + 1:02} | Time: {time.time() - start:.1f}s | Train Loss: {train_loss:.3f}")
        print(f"\t Val. Loss: {valid_loss:.3f} | PPL: {math.exp(valid_loss):7.3f} | Token acc: {accuracy:.3f}")

if __name__ == "__main__":
    main()
