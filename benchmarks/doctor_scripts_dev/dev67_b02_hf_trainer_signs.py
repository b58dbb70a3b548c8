"""Road sign classification with the Hugging Face Trainer."""
import math
import random
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter
from sklearn.metrics import accuracy_score, f1_score
from torch.utils.data import Dataset
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments
from transformers import get_linear_schedule_with_warmup, set_seed
from transformers.modeling_outputs import ImageClassifierOutput

SHAPES = {  # corners, rotation, color
    "stop": (8, 22, (190, 50, 50)),
    "yield": (3, 180, (190, 50, 50)),
    "mandatory": (16, 0, (50, 70, 190)),
    "info": (4, 0, (50, 70, 190)),
    "priority": (4, 45, (200, 180, 60)),
}
LABELS = list(SHAPES)
FREQUENCIES = [0.40, 0.25, 0.17, 0.11, 0.07]
IMAGE_SIZE, RESIZE_TO = 32, 36
BATCH_SIZE, GRAD_ACCUM, EPOCHS, LR = 16, 2, 12, 2e-3


def jitter(color, rng, amount=45):
    return tuple(int(np.clip(c + rng.randint(-amount, amount), 0, 255)) for c in color)


def draw_sign(label, rng):
    """One synthetic photo of a sign, of random size, position and lighting."""
    size = rng.randint(40, 64)
    img = Image.new("RGB", (size, size), jitter((120, 120, 110), rng, 60))
    draw = ImageDraw.Draw(img)
    for _ in range(4):
        x, y = rng.randint(0, size), rng.randint(0, size)
        draw.rectangle([x, y, x + 16, y + 12], fill=jitter((128, 128, 128), rng, 120))
    cx, cy = (size / 2 + rng.uniform(-0.1, 0.1) * size for _ in range(2))
    r = size * rng.uniform(0.22, 0.36)
    sides, rotation, color = SHAPES[label]
    draw.regular_polygon((cx, cy, r), sides, rotation=rotation + rng.uniform(-12, 12), fill=jitter(color, rng))
    img = img.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.5)))
    noise = np.random.RandomState(rng.randint(0, 2**31 - 1)).normal(0, 28, (size, size, 3))
    return Image.fromarray(np.clip(np.asarray(img) + noise, 0, 255).astype(np.uint8))


def make_examples(n, seed):
    rng = random.Random(seed)
    names = rng.choices(LABELS, weights=FREQUENCIES, k=n)
    return [{"image": draw_sign(name, rng), "label": LABELS.index(name)} for name in names]


class SignDataset(Dataset):
    def __init__(self, examples, transform):
        self.examples, self.transform = examples, transform

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, i):
        example = self.examples[i]
        return {"pixel_values": self.transform(example["image"]), "labels": example["label"]}


class SignTransform:
    def __init__(self, mean, std, train=False):
        self.mean, self.std, self.train = mean, std, train

    def __call__(self, image):
        image = image.resize((RESIZE_TO, RESIZE_TO), Image.BILINEAR)
        if self.train:
            left, top = (random.randint(0, RESIZE_TO - IMAGE_SIZE) for _ in range(2))
            pixels = np.array(image.crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE)))
        else:
            pixels = np.array(image.crop((2, 2, 2 + IMAGE_SIZE, 2 + IMAGE_SIZE)))
        pixels = (pixels.astype(np.float32) / 255.0 - self.mean) / self.std
        return torch.from_numpy(pixels).permute(2, 0, 1)


class SignNetConfig(PretrainedConfig):
    model_type = "signnet"

    def __init__(self, hidden_size=48, num_blocks=3, dropout=0.3, initializer_range=0.02, **kwargs):
        self.hidden_size, self.num_blocks = hidden_size, num_blocks
        self.dropout, self.initializer_range = dropout, initializer_range
        super().__init__(**kwargs)


class SignNetBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 3 * dim)
        self.fc2 = nn.Linear(3 * dim, dim)

    def forward(self, x):
        h = self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.fc2(F.gelu(self.fc1(self.norm(h))))


class SignNetForImageClassification(PreTrainedModel):
    config_class = SignNetConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.stem = nn.Conv2d(3, config.hidden_size, 4, stride=4)
        self.stem_norm = nn.LayerNorm(config.hidden_size)
        self.blocks = nn.ModuleList(SignNetBlock(config.hidden_size) for _ in range(config.num_blocks))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.trunc_normal_(module.weight, std=self.config.initializer_range)
            nn.init.zeros_(module.bias)

    def forward(self, pixel_values, labels=None):
        x = self.stem_norm(self.stem(pixel_values).permute(0, 2, 3, 1))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x.mean(dim=(1, 2)))
        x = F.dropout(x, p=self.config.dropout, training=self.training)
        logits = self.classifier(x)
        return ImageClassifierOutput(logits=logits)


class WeightedTrainer(Trainer):
    class_weights = None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits, labels, weight=self.class_weights)
        return (loss, outputs) if return_outputs else loss


def collate_fn(batch):
    pixel_values = torch.stack([example["pixel_values"] for example in batch])
    return {"pixel_values": pixel_values, "labels": torch.tensor([example["labels"] for example in batch])}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    preds = np.argmax(logits, axis=-1)
    return {"accuracy": accuracy_score(labels, preds), "f1": f1_score(labels, preds, average="macro")}


def main():
    set_seed(3)
    train_examples = make_examples(900, seed=1)
    sample = np.concatenate([np.asarray(e["image"]).reshape(-1, 3) for e in train_examples]) / 255.0
    mean, std = sample.mean(0).astype(np.float32), sample.std(0).astype(np.float32)
    train_set = SignDataset(train_examples, SignTransform(mean, std, train=True))
    eval_set = SignDataset(make_examples(400, seed=2), SignTransform(mean, std))
    test_set = SignDataset(make_examples(400, seed=3), SignTransform(mean, std))

    counts = np.bincount([e["label"] for e in train_examples], minlength=len(LABELS))
    model = SignNetForImageClassification(SignNetConfig(num_labels=len(LABELS)))
    decay = [p for p in model.parameters() if p.ndim >= 2]
    no_decay = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    num_training_steps = math.ceil(len(train_set) / (BATCH_SIZE * GRAD_ACCUM)) * EPOCHS
    scheduler = get_linear_schedule_with_warmup(optimizer, int(0.1 * num_training_steps), num_training_steps)

    with tempfile.TemporaryDirectory() as output_dir:
        training_args = TrainingArguments(
            output_dir=output_dir,
            per_device_train_batch_size=BATCH_SIZE,
            per_device_eval_batch_size=64,
            gradient_accumulation_steps=GRAD_ACCUM,
            num_train_epochs=EPOCHS,
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="f1",
            remove_unused_columns=False,
            report_to="none",
            use_cpu=True,
            seed=3,
        )
        trainer = WeightedTrainer(
            model, training_args, data_collator=collate_fn, train_dataset=train_set, eval_dataset=eval_set,
            compute_metrics=compute_metrics, optimizers=(optimizer, scheduler),
        )
        trainer.class_weights = torch.tensor(counts.sum() / (len(LABELS) * counts), dtype=torch.float32)
        trainer.train()
        metrics = trainer.evaluate(test_set, metric_key_prefix="test")
    print({k: round(v, 4) for k, v in metrics.items() if k in ("test_loss", "test_accuracy", "test_f1")})


if __name__ == "__main__":
    main()
