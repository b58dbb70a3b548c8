"""Words and tags that tests of checks share, and the networks that read, tag, translate and describe."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked_in_script, stepped
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.library_training import LibraryTraining, MetricFunction
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup


class Batch:
    def __init__(self, rows: list[Tensor]) -> None:
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        self.given, self.wanted, self.count = tokens[:, :-1], tokens[:, 1:], len(rows)


def padded_sentences() -> DataLoader[Any]:
    torch.manual_seed(0)
    rows = [torch.randint(1, 12, (4 + number % 5,)) for number in range(96)]
    return DataLoader(rows, 32, collate_fn=Batch)  # type: ignore[arg-type]


class Rates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kinds, self.head = nn.Embedding(40, 3), nn.Linear(7, 1)

    def forward(self, kinds: Tensor, numbers: Tensor) -> Tensor:
        rates: Tensor = self.head(torch.cat([self.kinds(kinds), numbers], 1)).squeeze(1)
        return rates


def counted(column: str = "") -> DataLoader[Any]:
    """Counts beside kinds and four numbers, of which the last may come with each of those that are counted, or say
    where none can be."""
    torch.manual_seed(0)
    kinds, numbers = torch.randint(0, 40, (320,)), torch.randn(320, 4)
    counts = torch.poisson((numbers[:, 0] / 2 + 1).exp())
    if column == "open":
        counts = counts + 1
        counts[::4] = 0
        numbers[:, 3] = (counts > 0).float()
    elif column == "cost":
        numbers[:, 3] = (1 + counts * (1 + 0.1 * torch.rand(320))).log()
    return DataLoader(TensorDataset(kinds, numbers, counts), 32)


TAGGED_WORDS, TAGS = 12, 4


class Tagger(nn.Module):
    """A tag for each word, by the word and those beside it, or by the word alone."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(TAGGED_WORDS, 16)
        self.net = nn.Conv1d(16, TAGS, width, padding=width // 2)

    def forward(self, words: Tensor) -> Any:
        return self.net(self.words(words).transpose(1, 2)).transpose(1, 2)


def tagged_sentences(count: int, seed: int) -> DataLoader[Any]:
    """Words and their tags, of different lengths, filled up with -100."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(1, TAGGED_WORDS, (count, 10), generator=generator)
    padding = torch.arange(10) >= torch.randint(3, 10, (count, 1), generator=generator)
    return DataLoader(TensorDataset(words.masked_fill(padding, 0), (words % TAGS).masked_fill(padding, -100)), 16)


def tagging(shift: int = 0) -> Any:
    """A step; with a shift, outputs are to tell the label behind."""

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        outputs = model(batch[0])[:, : batch[0].shape[1] - shift]
        value = functional.cross_entropy(outputs.flatten(0, 1), batch[1][:, shift:].flatten())
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def evidence_of(model: nn.Module, step: Any, judge: Any = None) -> Evidence:
    judges = None if judge is None else MetricFunction(predict, judge, "judge")
    library = LibraryTraining("a Trainer", 3, metric_function=judges)
    tree = ast.parse("def judge(outputs, labels):\n    pass")
    source = ScriptSource({"s.py": tree}, {}, ("s.py", 1, 1), 3, library=library)
    optimizer = torch.optim.Adam(model.parameters())
    setup = make_setup(
        model, tagged_sentences(64, 0), tagged_sentences(40, 1), step=step, source=source, optimizer=optimizer
    )
    return Evidence(setup, Clock(60.0))


def predict(model: nn.Module, batches: Iterable[Any]) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        pairs = [(model(words), labels) for words, labels in batches]
    return torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])


def shares(outputs: Tensor, labels: Tensor) -> dict[str, Any]:
    right, known = outputs.argmax(-1) == labels, labels != -100
    following = (outputs[:, :-1].argmax(-1) == labels[:, 1:])[known[:, 1:]]
    return {
        "accuracy": float(right.sum() / known.sum()),
        "next_token_accuracy": float(following.float().mean()),
        "token_accuracy": float(following.float().mean()),
        "precision_at_3": 1 / 3,
        "entity_accuracy": float(right[known].float().mean() * 100),
    }


def tones(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A tone of each of four pitches, begun at any time, in noise."""
    phase = 6.3 * torch.rand(len(labels), 1, generator=generator)
    sound = torch.sin(0.1 * (1 + labels[:, None]) * torch.arange(256) + phase)
    return sound + 0.3 * torch.randn(len(labels), 256, generator=generator)


CAPTION_WORDS = 8


class Teller(nn.Module):
    """Says the next word (N, T, WORDS) of images and of words so far."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.words, self.said = nn.Linear(12, 8), nn.Embedding(CAPTION_WORDS, 8), nn.Linear(8, CAPTION_WORDS)

    def forward(self, images: Tensor, words: Tensor) -> Tensor:
        return self.said((self.seen(images)[:, None] + self.words(words)).tanh())


def captions() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 7, (96,), generator=generator)
    words = torch.randint(1, CAPTION_WORDS, (96, 6), generator=generator)
    images = functional.one_hot(words, CAPTION_WORDS).float().flatten(1)[:, :12] + torch.randn(
        96, 12, generator=generator
    )
    return DataLoader(TensorDataset(images, words * (torch.arange(6) < lengths[:, None]), lengths), 32)


def said_of_captions(check: Any, order: str = "both", reduction: str = "mean") -> list[str]:
    torch.manual_seed(0)
    model = Teller()

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        images, words, lengths = batch
        lengths, index = lengths.sort(descending=True)
        wrong = index.roll(1) if order == "half" else index
        images = images if order == "captions" else torch.cat([images[index[:16]], images[wrong[16:]]])
        scores, asked = model(images, words[index][:, :-1]), words[index][:, 1:]
        loss = functional.cross_entropy(scores.flatten(0, 1), asked.flatten(), ignore_index=0, reduction=reduction)
        return stepped(loss / (lengths - 1).sum() if reduction == "sum" else loss, optimizer)

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    return [one.code for one in asked_in_script(check, model, captions(), **options)]


WORDS = 12


def translated_sentences(least: int = 3, most: int = 8, count: int = 128) -> list[Tensor]:
    """Words from 2 on, between the first one, 1, and padding, 0."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(least, most + 1, (count,), generator=generator).tolist()
    draws = (torch.randint(2, WORDS, (length,), generator=generator) for length in lengths)
    return [torch.cat([torch.ones(1, dtype=torch.long), drawn]) for drawn in draws]


class Translator(nn.Module):
    """An encoder, and a decoder that is fed the word `behind` steps before the one that it has to say, or this one
    after it is said."""

    def __init__(self, behind: int = 1, *, after: bool = False) -> None:
        super().__init__()
        self.behind, self.words, self.given = behind, nn.Embedding(WORDS, 12), nn.Embedding(WORDS, 12)
        self.after = after
        self.read, self.cell, self.say = nn.GRU(12, 12), nn.GRUCell(12, 12), nn.Linear(12, WORDS)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        hidden, said = self.read(self.given(source))[1][0], list[Tensor]()
        for t in range(1, len(target)):
            before, hidden = hidden, self.cell(self.words(target[t - self.behind]), hidden)
            said.append(self.say(before if self.after else hidden))
        return torch.stack(said)


def translating(ignored: int = 0) -> dict[str, Any]:
    """A step that asks for all words but the first, in batches (positions, samples)."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        said, wanted = model(*batch), batch[1][1:]
        return stepped(functional.cross_entropy(said.flatten(0, 1), wanted.flatten(), ignore_index=ignored), optimizer)

    return {"step": step}


def translation_batches() -> DataLoader[Any]:
    def collate(pairs: list[Any]) -> list[Tensor]:
        return [pad_sequence(list(part)) for part in zip(*pairs, strict=True)]

    return DataLoader(
        list(zip(translated_sentences(4, 9), translated_sentences(), strict=True)), 32, collate_fn=collate
    )  # type: ignore[arg-type]
