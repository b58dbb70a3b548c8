"""Hugging Face Trainer: which place in its sentence has a word? Articles need their neighbors to tell.

A loss of our own (focal), groups of parameters with rates that fall toward the embeddings, a random length of window.
"""
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset
from transformers import BertConfig, BertForTokenClassification, Trainer, TrainingArguments, set_seed

import toydata

PAD = 0
IGNORE = -100
SENTENCE = 6
TAGS = ["subject-article", "subject", "verb", "object-article", "object", "stop"]


class Windows(Dataset):
    """Every start in the corpus, with a length between 5 and 14 that belongs to the start."""

    def __init__(self, ids, tags, seed):
        lengths = np.random.default_rng(seed).integers(5, 15, size=len(ids))
        self.ids, self.tags = ids, tags
        self.spans = [(i, i + int(n)) for i, n in enumerate(lengths) if i + n <= len(ids)]

    def __len__(self):
        return len(self.spans)

    def __getitem__(self, index):
        start, stop = self.spans[index]
        return {"input_ids": self.ids[start:stop], "labels": self.tags[start:stop]}


def collate(features):
    longest = max(len(f["input_ids"]) for f in features)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for f in features:
        fill = longest - len(f["input_ids"])
        batch["input_ids"].append(f["input_ids"] + [PAD] * fill)
        batch["attention_mask"].append([1] * len(f["input_ids"]) + [0] * fill)
        batch["labels"].append(f["labels"] + [IGNORE] * fill)
    return {name: torch.tensor(rows) for name, rows in batch.items()}


class FocalTrainer(Trainer):
    gamma = 1.0

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        nll = F.cross_entropy(outputs.logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")
        real = (labels != IGNORE).float()
        focal = (1 - torch.exp(-nll)) ** self.gamma * nll
        loss = (focal * real).sum() / real.sum()
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, *args, **kwargs):
        if self.optimizer is None:
            bert, lr = self.model.bert, self.args.learning_rate
            self.optimizer = torch.optim.AdamW(
                [
                    {"params": bert.embeddings.parameters(), "lr": 0.6 * lr},
                    {"params": bert.encoder.layer[0].parameters(), "lr": 0.8 * lr},
                    {"params": bert.encoder.layer[1].parameters(), "lr": lr},
                    {"params": self.model.classifier.parameters(), "lr": lr},
                ],
                lr=lr, weight_decay=self.args.weight_decay,
            )
        return self.optimizer


def compute_metrics(prediction):
    guess = np.argmax(prediction.predictions, axis=-1)
    labels = prediction.label_ids
    real = labels != IGNORE
    articles = (labels == 0) | (labels == 3)
    return {
        "accuracy": float((guess[real] == labels[real]).mean()),
        "article_accuracy": float((guess[articles] == labels[articles]).mean()),
    }


def main():
    set_seed(17)
    words = toydata.text(length=6000, seed=2).split()
    words = words[: len(words) // SENTENCE * SENTENCE]
    vocabulary = {word: i + 1 for i, word in enumerate(sorted(set(words)))}
    ids = [vocabulary[word] for word in words]
    tags = [i % SENTENCE for i in range(len(words))]
    cut = int(0.8 * len(words) / SENTENCE) * SENTENCE
    train_dataset = Windows(ids[:cut], tags[:cut], seed=0)
    eval_dataset = Windows(ids[cut:], tags[cut:], seed=1)

    config = BertConfig(
        vocab_size=len(vocabulary) + 1, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=96, max_position_embeddings=16, num_labels=len(TAGS), pad_token_id=PAD,
        id2label=dict(enumerate(TAGS)), label2id={tag: i for i, tag in enumerate(TAGS)},
    )
    model = BertForTokenClassification(config)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=6,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=64,
            learning_rate=1.5e-3,
            weight_decay=0.01,
            warmup_steps=15,
            lr_scheduler_type="cosine",
            logging_steps=30,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=17,
        )
        trainer = FocalTrainer(
            model=model,
            args=arguments,
            data_collator=collate,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        metrics = trainer.evaluate()
    for name in ("eval_loss", "eval_accuracy", "eval_article_accuracy"):
        print(f"{name}: {metrics[name]:.4f}")


if __name__ == "__main__":
    main()
