"""Trains a tiny vision transformer with the Hugging Face Trainer on images of colored shapes."""

import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from toydata import NAMES, Shapes

MEAN = np.array([0.47, 0.45, 0.5], dtype=np.float32)
STD = np.array([0.2, 0.15, 0.2], dtype=np.float32)


class ImageRecords(Dataset):
    """PIL images and names of classes, as a hub data set yields them."""

    def __init__(self, split):
        shapes = Shapes(train=split == "train", count=1500 if split == "train" else 300)
        self.images = [Image.fromarray((image.permute(1, 2, 0).numpy() * 255).astype("uint8")) for image in shapes.images]
        self.names = list(shapes.names)
        self.train = split == "train"

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.names[index]}


class Processor:
    def __init__(self, size=16):
        self.size = size

    def __call__(self, image, augment=False):
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.BILINEAR)
        array = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
        if augment and np.random.rand() < 0.5:
            array = array[:, ::-1]
        if augment and np.random.rand() < 0.5:
            array = array[::-1]
        array = (array - MEAN) / STD
        return torch.from_numpy(array.transpose(2, 0, 1).copy())


class Collator:
    def __init__(self, processor, label2id, augment):
        self.processor, self.label2id, self.augment = processor, label2id, augment

    def __call__(self, examples):
        pixels = torch.stack([self.processor(e["image"], self.augment) for e in examples])
        labels = torch.tensor([self.label2id[e["label"]] for e in examples])
        return {"pixel_values": pixels, "labels": labels}


class ShapesTrainer(Trainer):
    """Uses one collator for training and one without augmentation for evaluation."""

    def __init__(self, *args, eval_collator=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.eval_collator = eval_collator

    def get_eval_dataloader(self, eval_dataset=None):
        collator, self.data_collator = self.data_collator, self.eval_collator
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = collator


def build_label_maps(dataset):
    label2id = {name: i for i, name in enumerate(sorted(set(dataset.names)))}
    return label2id, {i: name for name, i in label2id.items()}


class PatchEmbedding(nn.Module):
    def __init__(self, image_size, patch_size, dim):
        super().__init__()
        self.projection = nn.Conv2d(3, dim, patch_size, patch_size)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.position = nn.Parameter(0.02 * torch.randn(1, (image_size // patch_size) ** 2 + 1, dim))

    def forward(self, pixel_values):
        x = self.projection(pixel_values).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.position


class ViTForShapes(nn.Module):
    """Returns a dict of loss and logits, which is all that the Trainer needs."""

    def __init__(self, num_labels, image_size=16, patch_size=4, dim=64, depth=3, heads=4):
        super().__init__()
        self.embeddings = PatchEmbedding(image_size, patch_size, dim)
        layers = [nn.TransformerEncoderLayer(dim, heads, 2 * dim, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(depth)]
        self.encoder = nn.ModuleList(layers)
        self.layernorm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, num_labels)

    def forward(self, pixel_values, labels=None):
        x = self.embeddings(pixel_values)
        for layer in self.encoder:
            x = layer(x)
        logits = self.classifier(self.layernorm(x)[:, 0])
        loss = F.cross_entropy(logits, labels) if labels is not None else None
        return {"loss": loss, "logits": logits}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    per_class = [(predictions[labels == c] == c).mean() for c in np.unique(labels)]
    return {"accuracy": float((predictions == labels).mean()), "balanced_accuracy": float(np.mean(per_class))}


def main():
    set_seed(3)
    train_ds, eval_ds = ImageRecords("train"), ImageRecords("validation")
    assert set(train_ds.names) == set(NAMES)
    label2id, id2label = build_label_maps(train_ds)
    processor = Processor()
    model = ViTForShapes(len(id2label))

    with tempfile.TemporaryDirectory() as output_dir:
        args = TrainingArguments(
            output_dir=output_dir,
            num_train_epochs=20,
            per_device_train_batch_size=50,
            per_device_eval_batch_size=100,
            learning_rate=2e-3,
            weight_decay=0.01,
            warmup_steps=30,
            lr_scheduler_type="cosine",
            max_grad_norm=1.0,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            greater_is_better=True,
            logging_steps=30,
            remove_unused_columns=False,
            label_names=["labels"],
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = ShapesTrainer(
            model=model,
            args=args,
            train_dataset=train_ds,
            eval_dataset=eval_ds,
            data_collator=Collator(processor, label2id, augment=True),
            eval_collator=Collator(processor, label2id, augment=False),
            compute_metrics=compute_metrics,
        )
        trainer.train()
        metrics = trainer.evaluate()
        print({k: round(v, 4) for k, v in metrics.items() if "accuracy" in k or k == "eval_loss"})


if __name__ == "__main__":
    main()
