"""Hugging Face Trainer: tiny BERT from a config, which verb and which object, custom collator with padding."""
import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from toydata import text

set_seed(11)
sentences = [s.strip().rstrip(".").strip() for s in text(24000, seed=2).split("\n")]
sentences = [s for s in sentences if len(s.split()) == 5]
vocab = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3}
for s in sentences:
    for w in s.split():
        vocab.setdefault(w, len(vocab))
verbs = ["sees", "eats", "likes"]


class VerbDataset(Dataset):
    """Label: 0..2 = (verb index + is the object a mouse) mod 3. Some sentences get their articles dropped."""

    def __init__(self, rows, seed):
        g = np.random.default_rng(seed)
        self.items = []
        for s in rows:
            words = s.split()
            label = (verbs.index(words[2]) + (words[4] == "mouse")) % 3
            if g.random() < 0.4:
                words = [w for w in words if w not in ("the", "a", "one")]
            self.items.append(([1] + [vocab[w] for w in words] + [2], label))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        ids, label = self.items[i]
        return {"input_ids": ids, "label": label}


def collate(features):
    longest = max(len(f["input_ids"]) for f in features)
    ids = torch.zeros(len(features), longest, dtype=torch.long)
    att = torch.zeros_like(ids)
    for row, f in enumerate(features):
        n = len(f["input_ids"])
        ids[row, :n] = torch.tensor(f["input_ids"])
        att[row, :n] = 1
    return {"input_ids": ids, "attention_mask": att, "labels": torch.tensor([f["label"] for f in features])}


def compute_metrics(p):
    logits, labels = p
    pred = np.argmax(logits, axis=-1)
    return {"accuracy": float((pred == labels).mean())}


def main():
    cut = int(0.8 * len(sentences))
    config = BertConfig(vocab_size=len(vocab), hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=96, max_position_embeddings=16, num_labels=3,
                        hidden_dropout_prob=0.05, attention_probs_dropout_prob=0.05)
    model = BertForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as out:
        args = TrainingArguments(
            output_dir=out, per_device_train_batch_size=16, per_device_eval_batch_size=64, learning_rate=1e-3,
            num_train_epochs=8, warmup_steps=20, weight_decay=0.01, lr_scheduler_type="cosine",
            eval_strategy="epoch", save_strategy="no", logging_steps=40, report_to=[], use_cpu=True,
            disable_tqdm=True, seed=11, remove_unused_columns=False)
        trainer = Trainer(model=model, args=args, train_dataset=VerbDataset(sentences[:cut], 0),
                          eval_dataset=VerbDataset(sentences[cut:], 1), data_collator=collate,
                          compute_metrics=compute_metrics)
        trainer.train()
        print(trainer.evaluate())


if __name__ == "__main__":
    main()
