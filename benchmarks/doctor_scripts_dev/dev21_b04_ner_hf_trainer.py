"""Named entities (BIO tags) with a small transformer of our own and the Hugging Face Trainer.

Persons, places and firms share one stock of names, so that only the context tells what a name is.
Names are cut into pieces; only the first piece of a word carries its tag, the others -100.
"""

import random
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Trainer, TrainingArguments, set_seed

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
TAG_TO_ID = {tag: i for i, tag in enumerate(TAGS)}
PAD, UNK = 0, 1
MAX_LENGTH = 64

TEMPLATES = """PER works for ORG in LOC .
PER was born in LOC .
the mayor of LOC met PER yesterday .
ORG opened an office in LOC .
shares of ORG fell sharply after PER resigned .
PER and PER flew from LOC to LOC .
according to PER , ORG will leave LOC next year .
the weather in LOC was cold .
a spokesman for ORG declined to comment .
LOC defeated LOC in the final .
investors asked ORG about PER .
they visited LOC , LOC and LOC last summer .
ORG hired PER from ORG .""".splitlines()


def make_names(rng, count=220):
    starts = ["Mar", "Lin", "Tol", "Bre", "Kar", "Val", "Nor", "Sel", "Dun", "Hal", "Ros", "Wes"]
    middles = ["an", "ber", "cal", "do", "en", "il", "mo", "ri", "ta", "ve"]
    ends = ["ton", "ley", "son", "ford", "ia", "ero", "wick", "a"]
    names = [a + b + c for a in starts for b in middles for c in ends]
    return rng.sample(names, count)


def make_sentence(rng, names):
    words, tags = [], []
    for token in rng.choice(TEMPLATES).split():
        if token in ("PER", "LOC", "ORG"):
            entity = rng.sample(names, rng.choice([1, 2]))
            words += entity
            tags += [f"B-{token}"] + [f"I-{token}"] * (len(entity) - 1)
        else:
            words.append(token)
            tags.append("O")
    return tuple(words), tuple(tags)


def split_word(word):
    if word[0].isupper():
        return [word[i : i + 3] if i == 0 else "##" + word[i : i + 3] for i in range(0, len(word), 3)]
    return [word]


def build_vocab(sentences):
    pieces = sorted({piece for words, _ in sentences for word in words for piece in split_word(word)})
    return {"[PAD]": PAD, "[UNK]": UNK, **{piece: i for i, piece in enumerate(pieces, start=2)}}


def tokenize_and_align_labels(words, tags, vocab):
    input_ids, labels = [], []
    for word, tag in zip(words, tags):
        pieces = split_word(word)
        input_ids += [vocab.get(piece, UNK) for piece in pieces]
        labels += [TAG_TO_ID[tag]] + [-100] * (len(pieces) - 1)
    return {"input_ids": input_ids, "labels": labels}


def collate(rows):
    width = max(len(row["input_ids"]) for row in rows)
    input_ids = [row["input_ids"] + [PAD] * (width - len(row["input_ids"])) for row in rows]
    mask = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
    labels = [row["labels"] + [-100] * (width - len(row["labels"])) for row in rows]
    return {
        "input_ids": torch.tensor(input_ids),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(labels),
    }


class TinyTokenClassifier(nn.Module):
    def __init__(self, vocab_size, num_tags, dim=96, heads=4, layers=2, dropout=0.1):
        super().__init__()
        self.words = nn.Embedding(vocab_size, dim, padding_idx=PAD)
        self.positions = nn.Embedding(MAX_LENGTH, dim)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
        self.classifier = nn.Linear(dim, num_tags)

    def forward(self, input_ids, attention_mask, labels=None):
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.dropout(self.words(input_ids) + self.positions(positions))
        hidden = self.encoder(hidden, src_key_padding_mask=attention_mask == 0)
        logits = self.classifier(hidden)
        if labels is None:
            return {"logits": logits}
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        return {"loss": loss, "logits": logits}


def spans(tags):
    """The entities of a row of tags, as a set of (kind, first word, word after the last)."""
    found, start, kind = set(), None, None
    for i, tag in enumerate([*tags, "O"]):
        if start is not None and tag != f"I-{kind}":
            found.add((kind, start, i))
            start = None
        if tag.startswith("B-"):
            start, kind = i, tag[2:]
    return found


def compute_metrics(output):
    predictions, labels = output.predictions.argmax(axis=-1), output.label_ids
    true, predicted, both, right, words = 0, 0, 0, 0, 0
    for row_predictions, row_labels in zip(predictions, labels):
        kept = row_labels != -100
        gold = spans([TAGS[i] for i in row_labels[kept]])
        guess = spans([TAGS[i] for i in row_predictions[kept]])
        true, predicted, both = true + len(gold), predicted + len(guess), both + len(gold & guess)
        right += int((row_predictions[kept] == row_labels[kept]).sum())
        words += int(kept.sum())
    precision, recall = both / max(predicted, 1), both / max(true, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return {"precision": precision, "recall": recall, "f1": f1, "token_accuracy": right / words}


def main():
    set_seed(13)
    rng = random.Random(13)
    names = make_names(rng)
    sentences = sorted({make_sentence(rng, names) for _ in range(4000)})
    rng.shuffle(sentences)
    val_sentences, train_sentences = sentences[:400], sentences[400:2900]

    vocab = build_vocab(train_sentences)
    train_set = [tokenize_and_align_labels(words, tags, vocab) for words, tags in train_sentences]
    val_set = [tokenize_and_align_labels(words, tags, vocab) for words, tags in val_sentences]

    training_args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=10,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        learning_rate=1e-3,
        warmup_steps=100,
        weight_decay=0.01,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
        disable_tqdm=True,
        use_cpu=True,
        seed=13,
    )
    trainer = Trainer(
        model=TinyTokenClassifier(len(vocab), len(TAGS)),
        args=training_args,
        train_dataset=train_set,
        eval_dataset=val_set,
        data_collator=collate,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    print(trainer.evaluate())


if __name__ == "__main__":
    main()
