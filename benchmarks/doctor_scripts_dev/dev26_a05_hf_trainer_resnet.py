"""Train a small ResNet from scratch with the Hugging Face Trainer."""
import tempfile
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments, set_seed

from toydata import Shapes


@dataclass
class ImageProcessor:
    rescale_factor: float = 1 / 255
    image_mean: tuple = (0.5, 0.5, 0.5)
    image_std: tuple = (0.25, 0.25, 0.25)

    def __call__(self, image):
        mean = torch.tensor(self.image_mean).view(3, 1, 1)
        std = torch.tensor(self.image_std).view(3, 1, 1)
        return (image.float() * self.rescale_factor - mean) / std


class ShapesForClassification(torch.utils.data.Dataset):
    def __init__(self, split, processor, label2id, count):
        source = Shapes(train=split == "train", count=count, size=32)
        self.images = [(image * 255).round().to(torch.uint8) for image in source.images]
        self.names = source.names
        self.processor = processor
        self.label2id = label2id

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {
            "pixel_values": self.processor(self.images[index]),
            "label": self.label2id[self.names[index]],
        }


def collate_fn(examples):
    pixel_values = torch.stack([example["pixel_values"] for example in examples])
    labels = torch.tensor([example["label"] for example in examples])
    return {"pixel_values": pixel_values, "labels": labels}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return {"accuracy": float((predictions == labels).mean())}


def main():
    set_seed(42)
    labels = sorted(["red square", "red disc", "red cross", "blue square", "blue disc", "blue cross"])
    label2id = {label: i for i, label in enumerate(labels)}
    id2label = {i: label for i, label in enumerate(labels)}

    processor = ImageProcessor()
    train_dataset = ShapesForClassification("train", processor, label2id, count=1216)
    eval_dataset = ShapesForClassification("validation", processor, label2id, count=300)

    config = ResNetConfig(
        num_channels=3,
        embedding_size=16,
        hidden_sizes=[16, 32, 64],
        depths=[1, 1, 1],
        layer_type="basic",
        id2label=id2label,
        label2id=label2id,
    )
    model = ResNetForImageClassification(config)

    training_args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=14,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        learning_rate=2e-3,
        weight_decay=0.01,
        lr_scheduler_type="cosine",
        warmup_steps=40,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
        use_cpu=True,
        seed=42,
    )

    trainer = Trainer(
        model=model,
        args=training_args,
        data_collator=collate_fn,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    metrics = trainer.evaluate()
    print(f"final eval accuracy: {metrics['eval_accuracy']:.4f}")


if __name__ == "__main__":
    main()
