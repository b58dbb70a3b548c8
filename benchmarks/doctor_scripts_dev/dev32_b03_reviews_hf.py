"""Sentiment of short film reviews with a TextCNN and the Hugging Face Trainer."""

import random
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

LABELS = ["negative", "neutral", "positive"]
FILLER = (
    "the movie plot actor scene was i we watched yesterday with friends at home music camera "
    "story long in a this it and then our seat popcorn ticket screen evening"
).split()
GOOD = "great good wonderful funny brilliant moving clever warm".split()
BAD = "boring bad awful dull terrible messy clumsy cold".split()
PAD, UNK = 0, 1


def write_review(rng):
    label = rng.choice(LABELS)
    chunks = [[rng.choice(FILLER)] for _ in range(rng.randint(5, 16))]
    for _ in range(rng.randint(1, 2)):
        if label == "neutral":
            chunk = ["not", rng.choice(FILLER)]
        else:
            negated = rng.random() < 0.4
            words = GOOD if (label == "positive") != negated else BAD
            chunk = (["not"] if negated else []) + [rng.choice(words)]
        chunks.append(chunk)
    rng.shuffle(chunks)
    text = " ".join(word for chunk in chunks for word in chunk)
    return text.capitalize(), label


def build_vocab(rows):
    vocab = {"<pad>": PAD, "<unk>": UNK}
    for text, _ in rows:
        for word in text.lower().split():
            vocab.setdefault(word, len(vocab))
    return vocab


class Reviews(Dataset):
    def __init__(self, rows, vocab, label2id):
        self.items = []
        for text, label in rows:
            ids = [vocab.get(word, UNK) for word in text.lower().split()]
            self.items.append({"input_ids": ids, "labels": label2id[label]})

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def collate(features):
    length = max(len(item["input_ids"]) for item in features)
    ids = torch.full((len(features), length), PAD)
    for row, item in enumerate(features):
        ids[row, : len(item["input_ids"])] = torch.tensor(item["input_ids"])
    labels = torch.tensor([item["labels"] for item in features])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(), "labels": labels}


class TextCNN(nn.Module):
    def __init__(self, vocab_size, classes=3, dim=48, filters=48):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim, padding_idx=PAD)
        self.convs = nn.ModuleList([nn.Conv1d(dim, filters, width, padding=width // 2) for width in (1, 3, 5)])
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(3 * filters, classes)

    def forward(self, input_ids, attention_mask, labels=None):
        x = self.embedding(input_ids).transpose(1, 2)
        keep = attention_mask.unsqueeze(1).bool()
        pooled = [F.relu(conv(x)).masked_fill(~keep, 0.0).amax(dim=2) for conv in self.convs]
        logits = self.classifier(self.dropout(torch.cat(pooled, dim=1)))
        output = {"logits": logits}
        if labels is not None:
            output = {"loss": F.cross_entropy(logits, labels), "logits": logits}
        return output


def compute_metrics(prediction):
    predicted = np.argmax(prediction.predictions, axis=-1)
    return {
        "accuracy": float((predicted == prediction.label_ids).mean()),
        "macro_f1": float(f1_score(prediction.label_ids, predicted, average="macro")),
    }


def main():
    set_seed(11)
    rng = random.Random(11)
    rows = [write_review(rng) for _ in range(4600)]
    train_rows, valid_rows = rows[:4000], rows[4000:]
    vocab = build_vocab(train_rows)
    label2id = {name: index for index, name in enumerate(LABELS)}
    train_set = Reviews(train_rows, vocab, label2id)
    valid_set = Reviews(valid_rows, vocab, label2id)

    model = TextCNN(len(vocab))
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=12,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=100,
        learning_rate=1e-3,
        weight_decay=0.01,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=valid_set,
        data_collator=collate,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    print("final", trainer.evaluate())


if __name__ == "__main__":
    main()
