"""Named entities: a small transformer tags ambiguous names (washington: person, place or company?) with the HF Trainer."""

import random
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

TAGS = ["O", "PER", "LOC", "ORG"]
NAMES = """washington lincoln jackson madison austin houston dallas jordan chelsea paris sydney florence victoria
charlotte georgia virginia carolina chester lancaster york morgan stanley wells fargo goldman ford disney hilton
marriott chanel prada armani dell hewlett boeing douglas siemens bosch porsche benz""".split()
ADVERBS = "yesterday today suddenly quietly again finally soon reportedly".split()
TEMPLATES = [
    "PER said ADV that he left LOC",
    "shares of ORG fell ADV in LOC",
    "PER works ADV at ORG",
    "ORG hired PER from ORG",
    "the mayor of LOC met PER ADV",
    "flights to LOC were delayed ADV by ORG",
    "PER moved ADV to LOC",
    "workers at ORG like PER ADV",
    "ORG opened ADV a shop in LOC",
]


def make_sentence(rng):
    tokens, tags = [], []
    for clause in range(rng.choice([1, 2, 2, 3])):
        if clause:
            tokens.append(rng.choice(["and", "while", "but"]))
            tags.append("O")
        for word in rng.choice(TEMPLATES).split():
            if word == "ADV":
                if rng.random() < 0.5:
                    tokens.append(rng.choice(ADVERBS))
                    tags.append("O")
            elif word in TAGS:
                for _ in range(2 if word == "PER" and rng.random() < 0.4 else 1):
                    tokens.append(rng.choice(NAMES))
                    tags.append(word)
            else:
                tokens.append(word)
                tags.append("O")
    return tuple(tokens), tuple(tags)


def make_sentences(count, seed):
    rng, sentences = random.Random(seed), {}
    while len(sentences) < count:
        tokens, tags = make_sentence(rng)
        sentences[tokens] = tags
    return list(sentences.items())


def build_vocab(sentences):
    vocab = {"<pad>": 0, "<unk>": 1}
    for tokens, _ in sentences:
        for token in tokens:
            vocab.setdefault(token, len(vocab))
    return vocab


class TaggedSentences(Dataset):
    def __init__(self, sentences, vocab):
        self.sentences, self.vocab = sentences, vocab

    def __len__(self):
        return len(self.sentences)

    def __getitem__(self, index):
        tokens, tags = self.sentences[index]
        return {
            "input_ids": [self.vocab.get(token, 1) for token in tokens],
            "labels": [TAGS.index(tag) for tag in tags],
        }


def collate(items):
    longest = max(len(item["input_ids"]) for item in items)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for item in items:
        fill = longest - len(item["input_ids"])
        batch["input_ids"].append(item["input_ids"] + [0] * fill)
        batch["attention_mask"].append([1] * len(item["input_ids"]) + [0] * fill)
        batch["labels"].append(item["labels"] + [-100] * fill)
    return {name: torch.tensor(rows) for name, rows in batch.items()}


class Tagger(nn.Module):
    def __init__(self, vocab_size, width=96, layers=2, heads=4, longest=64):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width, padding_idx=0)
        self.position = nn.Embedding(longest, width)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, len(TAGS))

    def forward(self, input_ids, attention_mask, labels=None):
        x = self.embed(input_ids) + self.position(torch.arange(input_ids.shape[1], device=input_ids.device))
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        logits = self.head(x)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.reshape(-1, len(TAGS)), labels.reshape(-1), ignore_index=-100)
        return {"loss": loss, "logits": logits}


def compute_metrics(prediction):
    labels = prediction.label_ids
    predicted = np.argmax(prediction.predictions, axis=-1)
    known = labels != -100
    right = (predicted == labels) & known
    found = ((predicted > 0) & known).sum()
    hits = (right & (labels > 0)).sum()
    precision, recall = hits / max(found, 1), hits / (labels > 0).sum()
    return {
        "accuracy": float(right.sum() / known.sum()),
        "entity_f1": float(2 * precision * recall / max(precision + recall, 1e-9)),
    }


def main():
    set_seed(1)
    sentences = make_sentences(4800, seed=1)
    train_sentences, val_sentences = sentences[:4000], sentences[4000:]
    vocab = build_vocab(train_sentences)
    train_set = TaggedSentences(train_sentences, vocab)
    val_set = TaggedSentences(val_sentences, vocab)
    model = Tagger(len(vocab))

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=6,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=100,
        learning_rate=1e-3,
        warmup_steps=60,
        weight_decay=0.01,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
        use_cpu=True,
        seed=1,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=val_set,
        data_collator=collate,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    result = trainer.evaluate()
    print(f"token accuracy {result['eval_accuracy']:.4f}  entity F1 {result['eval_entity_f1']:.4f}")


if __name__ == "__main__":
    main()
