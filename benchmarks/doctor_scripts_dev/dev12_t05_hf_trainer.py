"""Image classification with the Hugging Face Trainer and a small conv-stem transformer of our own."""

import logging
import sys
import tempfile
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from transformers import HfArgumentParser, PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments, set_seed
from transformers.modeling_outputs import ImageClassifierOutput

from toydata import Shapes

logger = logging.getLogger(__name__)


@dataclass
class DataTrainingArguments:
    max_train_samples: int = field(default=1600, metadata={"help": "Number of training images."})
    max_eval_samples: int = field(default=300, metadata={"help": "Number of evaluation images."})
    image_size: int = field(default=16, metadata={"help": "Height and width of an image."})


@dataclass
class ModelArguments:
    hidden_size: int = field(default=48)
    num_hidden_layers: int = field(default=1)
    num_attention_heads: int = field(default=4)


class ConvFormerConfig(PretrainedConfig):
    model_type = "convformer"

    def __init__(
        self, image_size=16, num_channels=3, hidden_size=48, num_hidden_layers=1, num_attention_heads=4, **kwargs
    ):
        self.image_size = image_size
        self.num_channels = num_channels
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.initializer_range = 0.02
        super().__init__(**kwargs)


class ConvFormerEncoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config.hidden_size
        self.patch_embed = nn.Sequential(
            nn.Conv2d(config.num_channels, width // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.position = nn.Parameter(torch.zeros(1, (config.image_size // 4) ** 2, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, config.num_attention_heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, pixel_values):
        hidden = self.patch_embed(pixel_values).flatten(2).transpose(1, 2) + self.position
        for layer in self.layers:
            hidden = layer(hidden)
        return self.norm(hidden)


class ConvFormerForImageClassification(PreTrainedModel):
    config_class = ConvFormerConfig
    base_model_prefix = "convformer"
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.convformer = ConvFormerEncoder(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, pixel_values, labels=None):
        hidden = self.convformer(pixel_values.to(self.dtype))
        logits = self.classifier(hidden.mean(dim=1)).float()
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


class ShapeDataset(torch.utils.data.Dataset):
    """Images as a photo library yields them, height x width x RGB in bytes, and the name of each."""

    def __init__(self, shapes, label2id):
        self.images = [(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for image in shapes.images]
        self.labels = [label2id[name] for name in shapes.names]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index].astype(np.float32) / 255.0
        image = np.transpose(image, (2, 0, 1))
        return {"pixel_values": torch.from_numpy((image - 0.5) / 0.25), "labels": self.labels[index]}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return {"accuracy": float((predictions == labels).mean())}


def main():
    parser = HfArgumentParser((DataTrainingArguments, ModelArguments))
    data_args, model_args = parser.parse_args_into_dataclasses(args=sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

    training_args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=12,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        learning_rate=3e-3,
        weight_decay=0.01,
        warmup_steps=20,
        lr_scheduler_type="cosine",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        logging_steps=25,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    set_seed(training_args.seed)

    train_shapes = Shapes(train=True, count=data_args.max_train_samples, size=data_args.image_size)
    eval_shapes = Shapes(train=False, count=data_args.max_eval_samples, size=data_args.image_size)
    names = sorted(set(train_shapes.names))
    label2id = {name: i for i, name in enumerate(names)}
    id2label = {i: name for name, i in label2id.items()}

    config = ConvFormerConfig(
        image_size=data_args.image_size,
        hidden_size=model_args.hidden_size,
        num_hidden_layers=model_args.num_hidden_layers,
        num_attention_heads=model_args.num_attention_heads,
        label2id=label2id,
        id2label=id2label,
    )
    model = ConvFormerForImageClassification(config)
    logger.info("parameters: %d", sum(p.numel() for p in model.parameters() if p.requires_grad))

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=ShapeDataset(train_shapes, label2id),
        eval_dataset=ShapeDataset(eval_shapes, label2id),
        compute_metrics=compute_metrics,
    )
    trainer.train()
    trainer.save_model()
    metrics = trainer.evaluate()
    trainer.log_metrics("eval", metrics)


if __name__ == "__main__":
    main()
