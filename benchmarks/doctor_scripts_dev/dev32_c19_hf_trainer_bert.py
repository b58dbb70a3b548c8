"""Sentiment with a tiny BERT from scratch and the Trainer of transformers."""

import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

GOOD = "good great nice lovely superb fine".split()
BAD = "bad awful poor dull weak boring".split()
OTHER = "the film was and plot actor scene music very a of this in with story".split()
VOCAB = {word: index for index, word in enumerate(["[PAD]", "[CLS]", "[SEP]"] + GOOD + BAD + OTHER)}


def reviews(count, seed):
    """The label says whether good words outnumber bad ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        label = int(rng.integers(2))
        opinions = int(rng.choice([3, 5]))
        lesser = int(rng.integers(0, opinions // 2))
        first, second = (GOOD, BAD) if label else (BAD, GOOD)
        words = list(rng.choice(first, opinions - lesser)) + list(rng.choice(second, lesser))
        words += list(rng.choice(OTHER, int(rng.integers(4, 11))))
        rng.shuffle(words)
        rows.append((" ".join(words), label))
    return rows


class Reviews(Dataset):
    def __init__(self, rows, length=20):
        self.rows, self.length = rows, length

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        sentence, label = self.rows[index]
        ids = [VOCAB["[CLS]"]] + [VOCAB[word] for word in sentence.split()] + [VOCAB["[SEP]"]]
        gap = self.length - len(ids)
        return {
            "input_ids": torch.tensor(ids + [VOCAB["[PAD]"]] * gap),
            "attention_mask": torch.tensor([1] * len(ids) + [0] * gap),
            "labels": torch.tensor(label),
        }


class PrintMetrics(TrainerCallback):
    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        print(f"epoch {state.epoch:.0f} loss {metrics['eval_loss']:.4f} accuracy {metrics['eval_accuracy']:.3f}")


def compute_metrics(prediction):
    logits, labels = prediction
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}


def main():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCAB),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=32,
        hidden_dropout_prob=0.05,
        attention_probs_dropout_prob=0.05,
        num_labels=2,
        pad_token_id=0,
    )
    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=10,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=200,
        learning_rate=1e-3,
        weight_decay=0.01,
        warmup_steps=40,
        lr_scheduler_type="linear",
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="epoch",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=0,
    )
    trainer = Trainer(
        model=BertForSequenceClassification(config),
        args=args,
        train_dataset=Reviews(reviews(2000, seed=1)),
        eval_dataset=Reviews(reviews(400, seed=2)),
        compute_metrics=compute_metrics,
        callbacks=[PrintMetrics()],
    )
    trainer.train()


if __name__ == "__main__":
    main()
