"""Named entity style tagging with a BiLSTM; layout after the CS230 code examples (net, data loader, train, evaluate)."""
import argparse
import copy
import logging
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

PAD_ID, TAGS = 0, ["O", "PER", "LOC", "ORG", "NUM"]


def make_corpus(count, seed):
    """Sentences of made-up words. A name is PER, but LOC after 'in' and ORG after 'at'; digits are NUM."""
    rng = random.Random(seed)
    fillers, names = [f"w{i}" for i in range(20)], [f"Name{i}" for i in range(20)]
    sentences, labels = [], []
    for _ in range(count):
        words, tags = [], []
        for _ in range(rng.randint(3, 9)):
            kind = rng.choice(["filler", "filler", "PER", "LOC", "ORG", "NUM"])
            if kind == "filler":
                words, tags = words + [rng.choice(fillers)], tags + ["O"]
            elif kind == "NUM":
                words, tags = words + [rng.choice("0123456789")], tags + ["NUM"]
            elif kind == "PER":
                words, tags = words + ["with", rng.choice(names)], tags + ["O", "PER"]
            else:
                words, tags = words + ["in" if kind == "LOC" else "at", rng.choice(names)], tags + ["O", kind]
        sentences.append(words)
        labels.append(tags)
    return sentences, labels


class DataLoader:
    def __init__(self, train_sentences):
        self.vocab = self.build_vocab(train_sentences)
        self.tag_map = {tag: i for i, tag in enumerate(TAGS)}

    @staticmethod
    def build_vocab(sentences):
        vocab = {"<pad>": PAD_ID, "UNK": 1}
        for sentence in sentences:
            for word in sentence:
                vocab.setdefault(word, len(vocab))
        return vocab

    def load_sentences_labels(self, sentences, labels):
        vocab = self.vocab
        data = [[vocab.get(word, vocab["UNK"]) for word in sentence] for sentence in sentences]
        tags = [[self.tag_map[tag] for tag in sentence] for sentence in labels]
        return {"data": data, "labels": tags, "size": len(data)}

    def data_iterator(self, data, params, shuffle=False):
        order = list(range(data["size"]))
        if shuffle:
            random.shuffle(order)
        for start in range(0, data["size"], params.batch_size):
            batch = order[start : start + params.batch_size]
            batch_max_len = max(len(data["data"][idx]) for idx in batch)
            batch_data = PAD_ID * np.ones((len(batch), batch_max_len), dtype=np.int64)
            batch_labels = -1 * np.ones((len(batch), batch_max_len), dtype=np.int64)
            for j, idx in enumerate(batch):
                cur_len = len(data["data"][idx])
                batch_data[j][:cur_len] = data["data"][idx]
                batch_labels[j][:cur_len] = data["labels"][idx]
            yield torch.from_numpy(batch_data), torch.from_numpy(batch_labels)


class Net(nn.Module):
    def __init__(self, params):
        super().__init__()
        self.embedding = nn.Embedding(params.vocab_size, params.embedding_dim, padding_idx=PAD_ID)
        self.lstm = nn.LSTM(params.embedding_dim, params.lstm_hidden_dim, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(params.dropout)
        self.fc = nn.Linear(2 * params.lstm_hidden_dim, params.number_of_tags)

    def forward(self, s):
        lengths, seq_len = (s != PAD_ID).sum(dim=1), s.shape[1]
        s = self.dropout(self.embedding(s))
        s = nn.utils.rnn.pack_padded_sequence(s, lengths, batch_first=True, enforce_sorted=False)
        s, _ = self.lstm(s)
        s, _ = nn.utils.rnn.pad_packed_sequence(s, batch_first=True, total_length=seq_len)
        s = s.contiguous().view(-1, s.shape[2])
        return F.log_softmax(self.fc(s), dim=1)  # (batch_size * seq_len) x number_of_tags


def loss_fn(outputs, labels):
    labels = labels.view(-1)
    mask = (labels >= 0).float()
    labels = labels % outputs.shape[1]  # -1 becomes a valid index, the mask takes it out
    return -torch.sum(outputs[range(outputs.shape[0]), labels] * mask) / mask.sum()


def train(model, optimizer, data_iterator):
    model.train()
    losses = []
    for train_batch, labels_batch in data_iterator:
        loss = loss_fn(model(train_batch), labels_batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        losses.append(loss.item())
    return np.mean(losses)


@torch.no_grad()
def evaluate(model, data_iterator):
    model.eval()
    correct, total, loss_sum = 0, 0, 0.0
    for data_batch, labels_batch in data_iterator:
        outputs = model(data_batch)
        labels = labels_batch.view(-1)
        mask = labels >= 0
        loss_sum += loss_fn(outputs, labels_batch).item() * int(mask.sum())
        correct += int(((outputs.argmax(dim=1) == labels) & mask).sum())
        total += int(mask.sum())
    return {"accuracy": correct / total, "loss": loss_sum / total}


def train_and_evaluate(model, loader, train_data, val_data, optimizer, scheduler, params):
    best_val_acc, best_state = 0.0, None
    for epoch in range(params.num_epochs):
        train_loss = train(model, optimizer, loader.data_iterator(train_data, params, shuffle=True))
        val_metrics = evaluate(model, loader.data_iterator(val_data, params))
        scheduler.step()
        val_acc = val_metrics["accuracy"]
        if val_acc >= best_val_acc:
            best_val_acc, best_state = val_acc, copy.deepcopy(model.state_dict())
        logging.info("Epoch %d: train loss %.3f, val %s", epoch + 1, train_loss, val_metrics)
    model.load_state_dict(best_state)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_epochs", type=int, default=8)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(230)
    random.seed(230)
    train_raw, val_raw, test_raw = make_corpus(800, 0), make_corpus(200, 1), make_corpus(200, 2)
    loader = DataLoader(train_raw[0])
    train_data, val_data, test_data = (loader.load_sentences_labels(*raw) for raw in (train_raw, val_raw, test_raw))
    params = argparse.Namespace(
        num_epochs=args.num_epochs, batch_size=32, vocab_size=len(loader.vocab), embedding_dim=32,
        lstm_hidden_dim=32, number_of_tags=len(TAGS), dropout=0.2, learning_rate=5e-3,
    )  # fmt: skip
    model = Net(params)
    optimizer = optim.Adam(model.parameters(), lr=params.learning_rate)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    train_and_evaluate(model, loader, train_data, val_data, optimizer, scheduler, params)
    logging.info("Test: %s", evaluate(model, loader.data_iterator(test_data, params)))


if __name__ == "__main__":
    main()
