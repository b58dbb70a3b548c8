"""The content of a layer string as frozen records; `str` of a record parses back to an equal one.

Positions (`position`, `end`: characters of the parsed text) are for error messages and do not affect equality.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from striate.models.layer_strings.words import WORDS, Parameter, Value, show_value


@dataclass(frozen=True)
class Claim:
    """The input that pasted PyTorch code states."""

    name: str
    """Name of the class."""
    axes: int | None
    """Number of spatial axes; None where the class works with any."""
    takes: str
    """The parameter that holds the number of channels or features; empty where the class has none."""
    count: int | None
    """That number; None where it is not given."""
    place: tuple[int, int]
    """Index of the number's first character, and the index after its last; of the whole call where it is not given."""


@dataclass(frozen=True)
class Layer:
    """One layer: its word and those arguments that differ from their defaults, in the order of the signature."""

    word: str
    arguments: tuple[tuple[str, Value], ...] = ()
    position: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)
    claim: Claim | None = field(default=None, compare=False)
    tied: bool = field(default=False, compare=False)
    """Whether a layer of a mirrored decoder has the weights of the layer that it mirrors."""

    def __getitem__(self, name: str) -> Value:
        """The value of argument `name`, or its default (None: follows `size`)."""
        for given, value in self.arguments:
            if given == name:
                return value
        default = _parameter(self.word, name).default
        assert default is not ..., f"{self.word} without {name}"
        return default

    def changed(self, **values: Value) -> Layer:
        """The same layer with other values."""
        merged = dict(self.arguments) | values
        order = [parameter for parameter in WORDS[self.word] if parameter.name in merged]
        kept = ((p.name, merged[p.name]) for p in order if merged[p.name] != p.default)
        return Layer(self.word, tuple(kept), self.position, self.end)

    def __str__(self) -> str:
        parts = [
            show_value(value) if _positional(self.word, name) else f"{name}={show_value(value)}"
            for name, value in self.arguments
        ]
        return f"{self.word}({','.join(parts)})" if parts else self.word


@dataclass(frozen=True)
class Residual:
    """`res[ … ]`: the output of the bracket plus its input."""

    items: tuple[Item, ...]
    position: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"res[{_join(self.items)}]"


@dataclass(frozen=True)
class Repeat:
    """`3*[ … ]`: the layers in the bracket `count` times, each time with separate weights."""

    count: int
    items: tuple[Item, ...]
    position: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.count}*[{_join(self.items)}]"


@dataclass(frozen=True)
class Network:
    """A complete layer string; `text` is the parsed text, to which the positions refer."""

    items: tuple[Item, ...]
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return _join(self.items)


Item = Layer | Residual | Repeat


def _join(items: tuple[Item, ...]) -> str:
    return " ".join(str(item) for item in items)


def _positional(word: str, name: str) -> bool:
    return _parameter(word, name).required or WORDS[word][0].name == name


def _parameter(word: str, name: str) -> Parameter:
    return next(parameter for parameter in WORDS[word] if parameter.name == name)
