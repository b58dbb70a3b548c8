#!/usr/bin/env python
"""A small BERT from scratch with the Trainer: who is the subject of the first of two or three sentences?"""
import random
import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

import toydata

SUBJECTS = ["cat", "dog", "bird", "fish"]
PAD, CLS = 0, 1
MAX_LENGTH = 32


def read_sentences():
    sentences = []
    for seed in range(4):
        lines = toydata.text(24000, seed=seed).split("\n")[:-1]
        sentences.extend(line.split() for line in lines)
    return sentences


def build_examples(seed=0):
    """Each sentence of the corpus goes into one example; equal examples are kept once."""
    rng = random.Random(seed)
    sentences = read_sentences()
    examples, start = {}, 0
    while start + 3 <= len(sentences):
        count = rng.choice([2, 3])
        words = tuple(word for sentence in sentences[start:start + count] for word in sentence)
        examples[words] = SUBJECTS.index(words[1])
        start += count
    examples = list(examples.items())
    rng.shuffle(examples)
    return examples


class SubjectDataset(Dataset):
    def __init__(self, examples, vocabulary):
        self.features = [
            {"input_ids": [CLS] + [vocabulary[word] for word in words], "labels": label} for words, label in examples
        ]

    def __len__(self):
        return len(self.features)

    def __getitem__(self, index):
        return self.features[index]


def data_collator(features):
    longest = max(len(feature["input_ids"]) for feature in features)
    input_ids = torch.full((len(features), longest), PAD, dtype=torch.long)
    attention_mask = torch.zeros(len(features), longest, dtype=torch.long)
    for row, feature in enumerate(features):
        length = len(feature["input_ids"])
        input_ids[row, :length] = torch.tensor(feature["input_ids"])
        attention_mask[row, :length] = 1
    labels = torch.tensor([feature["labels"] for feature in features])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return {"accuracy": float((predictions == labels).mean())}


def main():
    set_seed(0)

    examples = build_examples()
    held_out, training = examples[:250], examples[250:]
    words = sorted({word for sequence, _ in training for word in sequence})
    vocabulary = {word: number + 2 for number, word in enumerate(words)}
    train_dataset = SubjectDataset(training, vocabulary)
    eval_dataset = SubjectDataset(held_out, vocabulary)
    print(f"{len(train_dataset)} examples to train, {len(eval_dataset)} to evaluate, {len(words)} words")

    config = BertConfig(
        vocab_size=len(vocabulary) + 2,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=MAX_LENGTH,
        type_vocab_size=1,
        initializer_range=0.08,
        pad_token_id=PAD,
        num_labels=len(SUBJECTS),
    )
    model = BertForSequenceClassification(config)

    training_args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=32,
        per_device_eval_batch_size=125,
        num_train_epochs=9,
        learning_rate=1e-3,
        weight_decay=0.01,
        warmup_steps=30,
        logging_steps=60,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        seed=0,
    )
    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        data_collator=data_collator,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    metrics = trainer.evaluate()
    print(f"eval loss {metrics['eval_loss']:.4f}, eval accuracy {metrics['eval_accuracy']:.4f}")


if __name__ == "__main__":
    main()
