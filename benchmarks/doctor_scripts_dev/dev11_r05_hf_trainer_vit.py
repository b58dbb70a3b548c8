"""A small vision transformer, trained from scratch with the transformers Trainer."""

import tempfile
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset
from transformers import HfArgumentParser, Trainer, TrainingArguments, set_seed

from toydata import NAMES, Shapes


@dataclass
class ModelArguments:
    hidden_size: int = field(default=48, metadata={"help": "width of the tokens"})
    num_layers: int = field(default=2)
    num_heads: int = field(default=4)
    patch_size: int = field(default=4)


@dataclass
class DataArguments:
    train_count: int = field(default=2400)
    eval_count: int = field(default=300)
    image_mean: float = field(default=0.5)
    image_std: float = field(default=0.2)


@dataclass
class RunArguments:
    learning_rate: float = field(default=3e-3)
    epochs: int = field(default=16)
    warmup_steps: int = field(default=40)
    batch_size: int = field(default=48)


class ImageProcessor:
    """Rescales pixels, as bytes come, and normalizes them."""

    def __init__(self, image_mean, image_std, do_rescale=True, rescale_factor=1 / 255):
        self.image_mean, self.image_std = image_mean, image_std
        self.do_rescale, self.rescale_factor = do_rescale, rescale_factor

    def __call__(self, image):
        pixels = image.astype(np.float32)
        if self.do_rescale:
            pixels = pixels * self.rescale_factor
        pixels = (pixels - self.image_mean) / self.image_std
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class ShapesForClassification(Dataset):
    def __init__(self, train, count, processor):
        self.shapes = Shapes(train=train, count=count)
        self.processor = processor

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, label = self.shapes[index]
        image = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        return {"pixel_values": self.processor(image), "labels": label}


def collate_fn(examples):
    pixel_values = torch.stack([example["pixel_values"] for example in examples])
    labels = torch.tensor([example["labels"] for example in examples])
    return {"pixel_values": pixel_values, "labels": labels}


class PatchEmbeddings(nn.Module):
    def __init__(self, args, image_size=16):
        super().__init__()
        self.patch = args.patch_size
        self.count = (image_size // self.patch) ** 2
        self.projection = nn.Linear(3 * self.patch**2, args.hidden_size)
        self.position_embeddings = nn.Parameter(0.02 * torch.randn(1, self.count, args.hidden_size))

    def forward(self, pixel_values):
        patches = F.unfold(pixel_values, self.patch, stride=self.patch).transpose(1, 2)
        return self.projection(patches) + self.position_embeddings


class SmallViTForImageClassification(nn.Module):
    def __init__(self, args, num_labels):
        super().__init__()
        self.num_labels = num_labels
        self.embeddings = PatchEmbeddings(args)
        layer = nn.TransformerEncoderLayer(
            d_model=args.hidden_size, nhead=args.num_heads, dim_feedforward=2 * args.hidden_size, dropout=0.0,
            activation="gelu", norm_first=True, batch_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, args.num_layers, enable_nested_tensor=False)
        self.layernorm = nn.LayerNorm(args.hidden_size)
        self.classifier = nn.Linear(args.hidden_size, num_labels)

    def forward(self, pixel_values, labels=None):
        hidden = self.encoder(self.embeddings(pixel_values))
        pooled = self.layernorm(hidden).mean(dim=1)
        logits = self.classifier(pooled)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.view(-1, self.num_labels), labels.view(-1))
        return {"loss": loss, "logits": logits}


def compute_metrics(eval_prediction):
    logits, labels = eval_prediction
    predictions = np.argmax(logits, axis=-1)
    recalls = [float((predictions[labels == c] == c).mean()) for c in np.unique(labels)]
    return {"accuracy": float((predictions == labels).mean()), "balanced_accuracy": float(np.mean(recalls))}


def main():
    model_args, data_args, run_args = HfArgumentParser((ModelArguments, DataArguments, RunArguments)).parse_args_into_dataclasses()
    set_seed(11)
    processor = ImageProcessor(data_args.image_mean, data_args.image_std)
    train_dataset = ShapesForClassification(True, data_args.train_count, processor)
    eval_dataset = ShapesForClassification(False, data_args.eval_count, processor)
    model = SmallViTForImageClassification(model_args, num_labels=len(NAMES))

    with tempfile.TemporaryDirectory() as output_dir:
        training_args = TrainingArguments(
            output_dir=output_dir,
            per_device_train_batch_size=run_args.batch_size,
            per_device_eval_batch_size=100,
            num_train_epochs=run_args.epochs,
            learning_rate=run_args.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=run_args.warmup_steps,
            weight_decay=0.01,
            eval_strategy="epoch",
            save_strategy="no",
            logging_steps=50,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
        )
        trainer = Trainer(
            model=model,
            args=training_args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=collate_fn,
            compute_metrics=compute_metrics,
        )
        trainer.train()
        metrics = trainer.evaluate()
        print({key: round(value, 4) for key, value in metrics.items()})


if __name__ == "__main__":
    main()
