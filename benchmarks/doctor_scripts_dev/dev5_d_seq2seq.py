# Translating numbers into words with a sequence-to-sequence network and attention.
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD_token, SOS_token, EOS_token = 0, 1, 2
HIDDEN_SIZE = 64
EMBED_SIZE = 32
BATCH_SIZE = 64
N_EPOCHS = 6
LEARNING_RATE = 4e-3
TEACHER_FORCING_RATIO = 0.8
CLIP = 1.0

ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen").split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()


def spell(n):
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (" " + ONES[n % 10] if n % 10 else "")
    if n < 1000:
        return ONES[n // 100] + " hundred" + (" and " + spell(n % 100) if n % 100 else "")
    return spell(n // 1000) + " thousand" + (" " + spell(n % 1000) if n % 1000 else "")


def make_pairs(n_train, n_valid, seed):
    rng = random.Random(seed)
    numbers = set()
    while len(numbers) < n_train + n_valid:
        numbers.add(rng.randrange(10 ** rng.choice([2, 3, 4, 5])) if rng.random() < 0.5 else rng.randrange(100000))
    numbers = sorted(numbers)
    rng.shuffle(numbers)
    pairs = [(" ".join(str(n)), spell(n)) for n in numbers]
    return pairs[:n_train], pairs[n_train:]


class Lang:
    def __init__(self, name):
        self.name = name
        self.word2index = {}
        self.index2word = {PAD_token: "PAD", SOS_token: "SOS", EOS_token: "EOS"}
        self.n_words = 3

    def addSentence(self, sentence):
        for word in sentence.split(" "):
            if word not in self.word2index:
                self.word2index[word] = self.n_words
                self.index2word[self.n_words] = word
                self.n_words += 1

    def indexes(self, sentence):
        return [self.word2index[word] for word in sentence.split(" ")] + [EOS_token]


class PairDataset(Dataset):
    def __init__(self, pairs, input_lang=None, output_lang=None):
        if input_lang is None:
            input_lang, output_lang = Lang("digits"), Lang("english")
            for src, tgt in pairs:
                input_lang.addSentence(src)
                output_lang.addSentence(tgt)
        self.input_lang, self.output_lang = input_lang, output_lang
        self.data = [(torch.tensor(input_lang.indexes(s)), torch.tensor([SOS_token] + output_lang.indexes(t)))
                     for s, t in pairs]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.data[i]


def collate(batch):
    src, tgt = zip(*batch)
    return (pad_sequence(src, batch_first=True, padding_value=PAD_token),
            pad_sequence(tgt, batch_first=True, padding_value=PAD_token))


class EncoderRNN(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.embedding = nn.Embedding(input_size, EMBED_SIZE, padding_idx=PAD_token)
        self.gru = nn.GRU(EMBED_SIZE, hidden_size, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, src):
        lengths = (src != PAD_token).sum(dim=1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(src), lengths, batch_first=True, enforce_sorted=False)
        output, hidden = self.gru(packed)
        output, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
        hidden = torch.tanh(self.bridge(torch.cat([hidden[0], hidden[1]], dim=1)))
        return output, hidden.unsqueeze(0)


class BahdanauAttention(nn.Module):
    def __init__(self, hidden_size):
        super().__init__()
        self.Wa = nn.Linear(hidden_size, hidden_size)
        self.Ua = nn.Linear(2 * hidden_size, hidden_size)
        self.Va = nn.Linear(hidden_size, 1)

    def forward(self, query, keys, mask):
        scores = self.Va(torch.tanh(self.Wa(query) + self.Ua(keys))).squeeze(2)
        scores = scores.masked_fill(mask == 0, -1e9)
        weights = F.softmax(scores, dim=-1)
        return torch.bmm(weights.unsqueeze(1), keys), weights


class AttnDecoderRNN(nn.Module):
    def __init__(self, hidden_size, output_size):
        super().__init__()
        self.embedding = nn.Embedding(output_size, EMBED_SIZE, padding_idx=PAD_token)
        self.attention = BahdanauAttention(hidden_size)
        self.gru = nn.GRU(EMBED_SIZE + 2 * hidden_size, hidden_size, batch_first=True)
        self.out = nn.Linear(hidden_size, output_size)

    def forward(self, encoder_outputs, hidden, mask, max_len, target_tensor=None):
        decoder_input = torch.full((encoder_outputs.size(0), 1), SOS_token, dtype=torch.long)
        outputs = []
        for i in range(max_len):
            if target_tensor is not None:  # teacher forcing
                decoder_input = target_tensor[:, i].unsqueeze(1)
            query = hidden.permute(1, 0, 2)
            context, _ = self.attention(query, encoder_outputs, mask)
            step_in = torch.cat((self.embedding(decoder_input), context), dim=2)
            output, hidden = self.gru(step_in, hidden)
            output = self.out(output)
            outputs.append(output)
            decoder_input = output.argmax(dim=-1).detach()
        return torch.cat(outputs, dim=1)


def train_epoch(loader, encoder, decoder, optimizer, criterion):
    encoder.train()
    decoder.train()
    total_loss = 0.0
    for src, tgt in loader:
        target = tgt[:, 1:]
        encoder_outputs, hidden = encoder(src)
        forced = tgt[:, :-1] if random.random() < TEACHER_FORCING_RATIO else None
        logits = decoder(encoder_outputs, hidden, src != PAD_token, target.size(1), forced)
        loss = criterion(logits.reshape(-1, logits.size(-1)), target.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*encoder.parameters(), *decoder.parameters()], CLIP)
        optimizer.step()
        total_loss += loss.item()
    return total_loss / len(loader)


@torch.no_grad()
def evaluate(loader, encoder, decoder, criterion):
    encoder.eval()
    decoder.eval()
    nll, n_tokens, exact, n_pairs = 0.0, 0, 0, 0
    for src, tgt in loader:
        target = tgt[:, 1:]
        encoder_outputs, hidden = encoder(src)
        mask = src != PAD_token
        logits = decoder(encoder_outputs, hidden, mask, target.size(1), tgt[:, :-1])
        real = target != PAD_token
        loss = criterion(logits.reshape(-1, logits.size(-1)), target.reshape(-1))
        nll += loss.item() * real.sum().item()
        n_tokens += real.sum().item()
        free = decoder(encoder_outputs, hidden, mask, target.size(1)).argmax(dim=-1)
        exact += ((free == target) | ~real).all(dim=1).sum().item()
        n_pairs += len(src)
    return math.exp(nll / n_tokens), exact / n_pairs


def main():
    random.seed(0)
    torch.manual_seed(0)
    train_pairs, valid_pairs = make_pairs(4000, 500, seed=3)
    train_set = PairDataset(train_pairs)
    valid_set = PairDataset(valid_pairs, train_set.input_lang, train_set.output_lang)
    train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(valid_set, batch_size=BATCH_SIZE, collate_fn=collate)

    encoder = EncoderRNN(train_set.input_lang.n_words, HIDDEN_SIZE)
    decoder = AttnDecoderRNN(HIDDEN_SIZE, train_set.output_lang.n_words)
    parameters = list(encoder.parameters()) + list(decoder.parameters())
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=N_EPOCHS)
    criterion = nn.CrossEntropyLoss(ignore_index=PAD_token)

    for epoch in range(1, N_EPOCHS + 1):
        loss = train_epoch(train_loader, encoder, decoder, optimizer, criterion)
        scheduler.step()
        if epoch % 2 == 0:
            perplexity, exact = evaluate(valid_loader, encoder, decoder, criterion)
            print(f"epoch {epoch:2d}  train loss {loss:.4f}  valid ppl {perplexity:.3f}  exact {exact:.3f}")
    print(f"valid exact match: {exact:.4f}  perplexity: {perplexity:.4f}")


if __name__ == "__main__":
    main()
