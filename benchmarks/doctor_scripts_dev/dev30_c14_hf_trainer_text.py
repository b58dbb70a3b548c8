"""Hugging Face Trainer: the mood of sentences with 'not' in them, by a small BERT from scratch."""

import random
import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

GOOD = ["good", "great", "funny", "bright", "lovely", "clever"]
BAD = ["bad", "dull", "boring", "dark", "awful", "silly"]
THINGS = ["film", "book", "play", "song", "plot", "scene"]
FILLERS = ["the", "a", "was", "really", "quite", "i", "think", "that", "this", "not", "and", "we", "saw", "yesterday"]
VOCABULARY = {word: i for i, word in enumerate(["[PAD]", "[CLS]"] + GOOD + BAD + THINGS + FILLERS)}


def sentence(rng):
    good, negated = rng.random() < 0.5, rng.random() < 0.35
    words = rng.choice([["i", "think", "that"], ["we", "saw", "that", "yesterday"], []])
    words = words + [rng.choice(["the", "a", "this"]), rng.choice(THINGS), "was"]
    words = words + (["not"] if negated else []) + rng.choice([["really"], ["quite"], []])
    words = words + [rng.choice(GOOD if good else BAD)]
    return words, int(good != negated)


class Moods(Dataset):
    def __init__(self, count, seed):
        rng = random.Random(seed)
        self.rows = [sentence(rng) for _ in range(count)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        words, label = self.rows[index]
        return {"input_ids": [VOCABULARY["[CLS]"]] + [VOCABULARY[word] for word in words], "labels": label}


def collate(rows):
    length = max(len(row["input_ids"]) for row in rows)
    input_ids = torch.zeros(len(rows), length, dtype=torch.long)
    attention_mask = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        input_ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        attention_mask[i, : len(row["input_ids"])] = 1
    labels = torch.tensor([row["labels"] for row in rows])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def compute_metrics(prediction):
    logits, labels = prediction.predictions, prediction.label_ids
    guess = logits.argmax(-1)
    true_positive = int(((guess == 1) & (labels == 1)).sum())
    f1 = 2 * true_positive / max(int((guess == 1).sum() + (labels == 1).sum()), 1)
    return {"accuracy": float(np.mean(guess == labels)), "f1": f1}


def main():
    set_seed(1)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=32,
        num_labels=2,
        pad_token_id=0,
        initializer_range=0.05,
    )
    model = BertForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=100,
            num_train_epochs=10,
            learning_rate=1e-3,
            warmup_steps=50,
            weight_decay=0.01,
            max_grad_norm=1.0,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            seed=1,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=Moods(2400, seed=0),
            eval_dataset=Moods(400, seed=1),
            data_collator=collate,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        print(trainer.evaluate())


if __name__ == "__main__":
    main()
