"""Who acts in the first sentence of a paragraph? A tiny BERT, trained with the Hugging Face Trainer."""
import random
import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from toydata import text

ANIMALS = ["cat", "dog", "bird", "fish"]
WORDS = ["the", "a", "one", *ANIMALS, "sees", "eats", "likes", "mouse", "worm", "seed", "."]
PAD, CLS = 0, 1
VOCAB = {word: i + 2 for i, word in enumerate(WORDS)}


def read_sentences(seeds):
    sentences = []
    for seed in seeds:
        for line in text(20000, seed=seed).split("\n"):
            words = line.split()
            if len(words) == 6 and words[-1] == ".":
                sentences.append(words)
    return sentences


def make_paragraphs(sentences, rng):
    paragraphs, at = [], 0
    while at + 4 <= len(sentences):
        length = rng.randint(2, 4)
        paragraphs.append(sentences[at : at + length])
        at += length
    return paragraphs


class ParagraphDataset(Dataset):
    def __init__(self, paragraphs):
        self.examples = []
        for paragraph in paragraphs:
            ids = [CLS] + [VOCAB[word] for sentence in paragraph for word in sentence]
            self.examples.append({"input_ids": ids, "labels": ANIMALS.index(paragraph[0][1])})

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


def collate(examples):
    longest = max(len(example["input_ids"]) for example in examples)
    input_ids = torch.full((len(examples), longest), PAD)
    for row, example in enumerate(examples):
        input_ids[row, : len(example["input_ids"])] = torch.tensor(example["input_ids"])
    attention_mask = (input_ids != PAD).long()
    labels = torch.tensor([example["labels"] for example in examples])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def compute_metrics(prediction):
    logits, labels = prediction
    predicted = np.argmax(logits, axis=-1)
    return {"accuracy": float((predicted == labels).mean())}


def main():
    set_seed(0)
    rng = random.Random(0)
    train_set = ParagraphDataset(make_paragraphs(read_sentences(range(6)), rng))
    eval_set = ParagraphDataset(make_paragraphs(read_sentences(range(100, 102)), rng))
    print(f"{len(train_set)} paragraphs to train with, {len(eval_set)} to evaluate")

    config = BertConfig(
        vocab_size=len(VOCAB) + 2,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=32,
        hidden_dropout_prob=0.05,
        attention_probs_dropout_prob=0.0,
        num_labels=len(ANIMALS),
        pad_token_id=PAD,
    )
    model = BertForSequenceClassification(config)

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=8,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=100,
        learning_rate=1e-3,
        warmup_steps=30,
        weight_decay=0.01,
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        data_collator=collate,
        train_dataset=train_set,
        eval_dataset=eval_set,
        compute_metrics=compute_metrics,
    )
    before = trainer.evaluate()
    print(f"before training: accuracy {before['eval_accuracy']:.3f}")
    trainer.train()
    after = trainer.evaluate()
    print(f"after training: loss {after['eval_loss']:.4f} accuracy {after['eval_accuracy']:.3f}")


if __name__ == "__main__":
    main()
