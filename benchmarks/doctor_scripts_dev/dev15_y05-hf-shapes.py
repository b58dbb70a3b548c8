#!/usr/bin/env python
"""Fine-grained shape recognition with the Hugging Face Trainer and class weights for the rare kinds."""

import tempfile
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score, recall_score
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed
from transformers.modeling_outputs import ImageClassifierOutput
from transformers.utils import logging as hf_logging

from toydata import Shapes

hf_logging.set_verbosity_error()


@dataclass
class DataTrainingArguments:
    max_train_samples: int = 1800
    max_eval_samples: int = 400
    keep_every: int = 6  # of discs, which are rare in the field


class ShapeRecords(Dataset):
    """Records with `pixel_values` and `labels`, the labels numbered by name."""

    def __init__(self, shapes, rare="disc", keep_every=1):
        rows = []
        for i, name in enumerate(shapes.names):
            if rare in name and i % keep_every:
                continue
            rows.append((shapes.images[i], name))
        self.rows = rows
        self.label2id = {name: k for k, name in enumerate(sorted({name for _, name in rows}))}

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        image, name = self.rows[i]
        return {"pixel_values": (image - 0.5) / 0.2, "labels": self.label2id[name]}

    def counts(self):
        return torch.bincount(torch.tensor([self.label2id[name] for _, name in self.rows])).float()


def conv_gelu(c_in, c_out, stride=1):
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.GroupNorm(4, c_out), nn.GELU())


class ShapeClassifier(nn.Module):
    def __init__(self, num_labels, width=24):
        super().__init__()
        self.backbone = nn.Sequential(
            conv_gelu(3, width), conv_gelu(width, width, 2), conv_gelu(width, 2 * width), conv_gelu(2 * width, 2 * width, 2)
        )
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(2 * width, num_labels)

    def forward(self, pixel_values, labels=None):
        hidden = self.backbone(pixel_values)
        pooled = hidden.amax(dim=(2, 3))
        logits = self.classifier(self.dropout(pooled))
        loss = F.cross_entropy(logits, labels) if labels is not None else None
        return ImageClassifierOutput(loss=loss, logits=logits)


class WeightedTrainer(Trainer):
    def __init__(self, *args, class_weights=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.class_weights = class_weights

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs["labels"]
        outputs = model(pixel_values=inputs["pixel_values"])
        loss = F.cross_entropy(outputs.logits, labels, weight=self.class_weights)
        return (loss, outputs) if return_outputs else loss


def collate_fn(examples):
    return {
        "pixel_values": torch.stack([e["pixel_values"] for e in examples]),
        "labels": torch.tensor([e["labels"] for e in examples]),
    }


def compute_metrics(eval_pred):
    logits, labels = eval_pred.predictions, eval_pred.label_ids
    preds = np.argmax(logits, axis=1)
    return {
        "accuracy": float((preds == labels).mean()),
        "macro_f1": f1_score(labels, preds, average="macro"),
        "worst_recall": float(recall_score(labels, preds, average=None, zero_division=0).min()),
    }


def main():
    set_seed(21)
    data_args = DataTrainingArguments()
    train_ds = ShapeRecords(Shapes(train=True, count=data_args.max_train_samples), keep_every=data_args.keep_every)
    eval_ds = ShapeRecords(Shapes(train=False, count=data_args.max_eval_samples))
    counts = train_ds.counts()
    print("train samples per class:", {n: int(counts[k]) for n, k in train_ds.label2id.items()})

    training_args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=32,
        per_device_eval_batch_size=200,
        num_train_epochs=12,
        learning_rate=3e-3,
        weight_decay=0.01,
        warmup_steps=20,
        lr_scheduler_type="cosine",
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=25,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        remove_unused_columns=False,
    )
    trainer = WeightedTrainer(
        model=ShapeClassifier(len(train_ds.label2id)),
        args=training_args,
        data_collator=collate_fn,
        train_dataset=train_ds,
        eval_dataset=eval_ds,
        compute_metrics=compute_metrics,
        class_weights=counts.sum() / (len(counts) * counts),
    )
    trainer.train()
    metrics = trainer.evaluate()
    print({k: round(v, 4) for k, v in metrics.items() if "eval_" in k and "per_second" not in k})


if __name__ == "__main__":
    main()
