import argparse
import copy
import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD, UNK = "<pad>", "<unk>"
IGNORE = -100
NAMES = ["jordan", "chelsea", "austin", "florence", "lincoln", "paris", "sydney", "houston", "madison", "carter"]
FILLER = ["however", "today", "again", "much", "was", "seen", "there", "it", "rained", "and", "so", "people", "waited", "long"]


def make_corpus(start, count, seed):
    """Sentences of clauses; a name is a person, a place or a company by what stands around it."""
    rng = random.Random(seed)
    corpus = []
    for i in range(start, start + count):
        words, tags = ["the"], ["O"]
        for c in range(rng.randint(1, 5)):
            kind = i % 3 if c == 0 else rng.randrange(3)
            for _ in range(rng.randint(1, 4)):
                words.append(rng.choice(FILLER))
                tags.append("O")
            if kind == 0:
                words += [rng.choice(["mr", "president", "doctor"]), rng.choice(NAMES), rng.choice(NAMES), rng.choice(["said", "left"])]
                tags += ["O", "B-PER", "I-PER", "O"]
            elif kind == 1:
                words += [rng.choice(["in", "near", "from"]), rng.choice(NAMES)]
                tags += ["O", "B-LOC"]
            else:
                words += [rng.choice(NAMES), rng.choice(["bank", "group", "corp"]), rng.choice(["bought", "sold"])]
                tags += ["B-ORG", "I-ORG", "O"]
        corpus.append((words, tags))
    return corpus


def build_word_vocab(corpus):
    word_to_ix = {PAD: 0, UNK: 1}
    for words, _ in corpus:
        for word in words:
            word_to_ix.setdefault(word, len(word_to_ix))
    return word_to_ix


def build_tag_vocab(corpus):
    tag_to_ix = {}
    for _, tags in corpus:
        for tag in tags:
            tag_to_ix.setdefault(tag, len(tag_to_ix))
    return tag_to_ix


class NERDataset(Dataset):
    def __init__(self, corpus, word_to_ix, tag_to_ix):
        self.corpus, self.word_to_ix, self.tag_to_ix = corpus, word_to_ix, tag_to_ix

    def __len__(self):
        return len(self.corpus)

    def __getitem__(self, index):
        words, tags = self.corpus[index]
        word_ids = [self.word_to_ix.get(w, self.word_to_ix[UNK]) for w in words]
        return torch.tensor(word_ids), torch.tensor([self.tag_to_ix[t] for t in tags])


def collate(batch):
    words, tags = zip(*batch)
    lengths = torch.tensor([len(w) for w in words])
    words = pad_sequence(words, batch_first=True, padding_value=0)
    tags = pad_sequence(tags, batch_first=True, padding_value=IGNORE)
    return words, tags, lengths


class BiLSTMTagger(nn.Module):
    def __init__(self, vocab_size, tagset_size, embedding_dim=32, hidden_dim=64, dropout=0.3):
        super().__init__()
        self.word_embeds = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim // 2, batch_first=True, bidirectional=True)
        self.hidden2tag = nn.Linear(hidden_dim, tagset_size)

    def forward(self, words, lengths):
        embeds = self.dropout(self.word_embeds(words))
        packed = pack_padded_sequence(embeds, lengths, batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.hidden2tag(self.dropout(output))


def make_optimizer(model, args):
    embed, rest = [], []
    for name, param in model.named_parameters():
        if name.startswith("word_embeds"):
            embed.append(param)
        else:
            rest.append(param)
    return torch.optim.Adam([{"params": embed, "lr": args.embed_lr}, {"params": rest}], lr=args.lr)


def evaluate(model, loader, outside):
    model.eval()
    correct = total = true_pos = predicted_pos = gold_pos = 0
    with torch.no_grad():
        for words, tags, lengths in loader:
            predictions = model(words, lengths).argmax(dim=-1)
            mask = tags != IGNORE
            predictions, gold = predictions[mask], tags[mask]
            correct += (predictions == gold).sum().item()
            total += gold.numel()
            true_pos += ((predictions == gold) & (gold != outside)).sum().item()
            predicted_pos += (predictions != outside).sum().item()
            gold_pos += (gold != outside).sum().item()
    f1 = 2 * true_pos / max(1, predicted_pos + gold_pos)
    return correct / total, f1


def main():
    parser = argparse.ArgumentParser(description="BiLSTM named entity tagger")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--embed_lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    train_corpus = make_corpus(0, 800, seed=args.seed)
    dev_corpus = make_corpus(800, 200, seed=args.seed + 1)
    word_to_ix, tag_to_ix = build_word_vocab(train_corpus), build_tag_vocab(train_corpus)
    train_loader = DataLoader(NERDataset(train_corpus, word_to_ix, tag_to_ix), args.batch_size, shuffle=True, collate_fn=collate)
    dev_loader = DataLoader(NERDataset(dev_corpus, word_to_ix, tag_to_ix), args.batch_size, collate_fn=collate)

    model = BiLSTMTagger(len(word_to_ix), len(tag_to_ix))
    criterion = nn.CrossEntropyLoss(ignore_index=IGNORE)
    optimizer = make_optimizer(model, args)
    best_f1, best_state = -1.0, None
    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for words, tags, lengths in train_loader:
            optimizer.zero_grad()
            scores = model(words, lengths)
            loss = criterion(scores.flatten(0, 1), tags.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            running += loss.item()
        accuracy, f1 = evaluate(model, dev_loader, tag_to_ix["O"])
        print(f"epoch {epoch + 1:2d} | loss {running / len(train_loader):.4f} | dev acc {accuracy:.4f} | dev f1 {f1:.4f}")
        if f1 > best_f1:
            best_f1, best_state = f1, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    print(f"best dev f1 {best_f1:.4f}")


if __name__ == "__main__":
    main()
