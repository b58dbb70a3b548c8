"""Fine-grained motion recognition: in which direction does the colored digit move? (Hugging Face Trainer)"""

import tempfile

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from toydata import draw_digits

DIRECTIONS = ["left", "right", "up", "down"]
VELOCITY = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
NUM_FRAMES = 6


def render_clips(num_clips, seed):
    """Returns float clips of shape (num_clips, frames, 3, 16, 16) and the name of each one's motion."""
    digits, _ = draw_digits(num_clips, seed=seed, noise=0.0)
    rng = np.random.default_rng(seed)
    clips, names = [], []
    for digit in digits.float() / 255:
        name = DIRECTIONS[rng.integers(len(DIRECTIONS))]
        dy, dx = VELOCITY[name]
        color = torch.tensor(rng.uniform(0.5, 1.0, size=(3, 1, 1)), dtype=torch.float32)
        frames = [torch.roll(digit, (dy * t, dx * t), dims=(1, 2)) * color for t in range(NUM_FRAMES)]
        clip = torch.stack(frames)
        clip = clip + 0.05 * torch.tensor(rng.standard_normal(clip.shape), dtype=torch.float32)
        clips.append(clip)
        names.append(name)
    return torch.stack(clips), names


class ClipDataset(Dataset):
    def __init__(self, clips, names, classes, train=False):
        self.clips = (clips - 0.1) / 0.25
        self.label2id = {name: i for i, name in enumerate(classes)}
        self.names = names
        self.train = train

    def __len__(self):
        return len(self.names)

    def __getitem__(self, idx):
        clip, name = self.clips[idx], self.names[idx]
        if self.train:
            clip = clip * (0.9 + 0.2 * torch.rand(()))
        return {"pixel_values": clip, "labels": self.label2id[name]}


def collate_fn(examples):
    pixel_values = torch.stack([example["pixel_values"] for example in examples])
    labels = torch.tensor([example["labels"] for example in examples])
    return {"pixel_values": pixel_values, "labels": labels}


class TinyVideoNet(nn.Module):
    def __init__(self, num_labels, width=12):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv3d(3, width, kernel_size=3, padding=1),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.MaxPool3d((1, 2, 2)),
            nn.Conv3d(width, 2 * width, kernel_size=3, padding=1),
            nn.BatchNorm3d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(2 * width, num_labels)
        self.loss_fct = nn.CrossEntropyLoss()

    def forward(self, pixel_values, labels=None):
        # (batch, frames, channels, height, width) -> (batch, channels, frames, height, width)
        video = pixel_values.permute(0, 2, 1, 3, 4)
        features = self.encoder(video)
        logits = self.classifier(features)
        if labels is None:
            return {"logits": logits}
        return {"loss": self.loss_fct(logits, labels), "logits": logits}


def compute_metrics(eval_pred):
    predictions = np.argmax(eval_pred.predictions, axis=1)
    references = eval_pred.label_ids
    per_class = {
        f"recall_{name}": float((predictions[references == i] == i).mean()) for i, name in enumerate(DIRECTIONS)
    }
    return {"accuracy": float((predictions == references).mean()), **per_class}


def main():
    set_seed(11)
    train_clips, train_names = render_clips(800, seed=21)
    eval_clips, eval_names = render_clips(200, seed=22)
    train_dataset = ClipDataset(train_clips, train_names, classes=DIRECTIONS, train=True)
    eval_dataset = ClipDataset(eval_clips, eval_names, classes=DIRECTIONS)

    model = TinyVideoNet(num_labels=len(DIRECTIONS))
    with tempfile.TemporaryDirectory() as output_dir:
        training_args = TrainingArguments(
            output_dir=output_dir,
            num_train_epochs=8,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=50,
            learning_rate=5e-3,
            weight_decay=0.01,
            lr_scheduler_type="linear",
            warmup_steps=10,
            eval_strategy="epoch",
            save_strategy="no",
            logging_steps=25,
            report_to="none",
            use_cpu=True,
            dataloader_pin_memory=False,
            disable_tqdm=True,
            seed=11,
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
