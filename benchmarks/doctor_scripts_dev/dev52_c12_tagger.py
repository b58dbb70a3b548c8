"""Which word of its sentence does a character belong to? A small BERT from scratch with the Hugging Face Trainer."""
import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForTokenClassification, Trainer, TrainingArguments, set_seed

from toydata import text

ROLES = ["article", "subject", "verb", "article of object", "object", "end"]
PAD = 0
IGNORED = -100


def read_sentences():
    """Every sentence once, so that none is in both parts."""
    raw = text(length=30000, seed=9)
    sentences = sorted(set(raw.split("\n ")[:-1]))
    return [sentence.split(" ") for sentence in sentences]


class TaggedSentences(Dataset):
    def __init__(self, sentences, vocabulary):
        self.items = []
        for words in sentences:
            characters, tags = [], []
            for role, word in enumerate(words):
                for character in word + " ":
                    characters.append(vocabulary[character])
                    tags.append(role)
            self.items.append({"input_ids": characters, "labels": tags})

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def collate(features):
    longest = max(len(feature["input_ids"]) for feature in features)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for feature in features:
        size = len(feature["input_ids"])
        gap = longest - size
        batch["input_ids"].append(feature["input_ids"] + [PAD] * gap)
        batch["attention_mask"].append([1] * size + [0] * gap)
        batch["labels"].append(feature["labels"] + [IGNORED] * gap)
    return {name: torch.tensor(rows) for name, rows in batch.items()}


def compute_metrics(prediction):
    logits, labels = prediction
    guesses = np.argmax(logits, axis=-1)
    counted = labels != IGNORED
    right = (guesses == labels) & counted
    whole = (right | ~counted).all(axis=1)
    return {"character_accuracy": right.sum() / counted.sum(), "sentence_accuracy": whole.mean()}


def main():
    set_seed(5)
    sentences = read_sentences()
    order = np.random.default_rng(0).permutation(len(sentences))
    cut = int(0.8 * len(sentences))
    alphabet = sorted({character for words in sentences for word in words for character in word} | {" "})
    vocabulary = {character: number + 1 for number, character in enumerate(alphabet)}
    train_set = TaggedSentences([sentences[i] for i in order[:cut]], vocabulary)
    eval_set = TaggedSentences([sentences[i] for i in order[cut:]], vocabulary)
    print(len(train_set), "sentences to train,", len(eval_set), "to evaluate")

    config = BertConfig(
        vocab_size=len(vocabulary) + 1,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
        hidden_dropout_prob=0.05,
        attention_probs_dropout_prob=0.05,
        num_labels=len(ROLES),
        pad_token_id=PAD,
    )
    model = BertForTokenClassification(config)

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=20,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        learning_rate=2e-3,
        warmup_steps=20,
        lr_scheduler_type="cosine",
        weight_decay=0.01,
        logging_steps=80,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=5,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=eval_set,
        data_collator=collate,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    print({name: round(float(value), 4) for name, value in trainer.evaluate().items()})


if __name__ == "__main__":
    main()
