"""Configuration as text: from YAML and dotted fields to the frozen tree, and back."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import yaml

from striate.errors import ConfigError, RunError, pasted
from striate.runs.plain_files import read_bytes
from striate.training.config import Config
from striate.training.field_aliases import FIELDS_OF_OTHER_TOOLS, SHORT_OPTIONS
from striate.wording import listed, several

if TYPE_CHECKING:
    from pydantic import TypeAdapter

# Examples of values for remedies; {} is the option of the field.
_EXAMPLES = {
    "cv": "{} 5x5; {} null turns it off",
    "budget.epochs": "{} 20",
    "budget.minutes": "{} 2",
    "budget.target": "{} 0.94 for 94 %",
    "task.cost": "{} ill=10,doubtful=3",
    "task.threshold": "{} ill=0.2",
}

# What decides a field that is left open, by the beginning of its name; the first match counts.
_DECIDED = {
    "data.val_fraction": "the recipe decides it then",
    "data.packs": "packs are then in the cache folder",
    "data.": "it is then decided from the data",
    "schedule.full_size_from": "it is then 0.6",
    "budget.steps": "it then follows from --epochs or --minutes",
    "execution.device": "a GPU is then used where there is one",
    "execution.micro_batch": "whole batches are then computed, unless they do not fit",
    "execution.": "the plan decides it then",
    "model.": "the recipe and the data decide it then",
    "": "the recipe decides it then",
}


_LARGEST_FILE = 1_000_000
_LONGEST_NUMBER = 40
_DEEPEST = 50
_FROM_A_RUN = "striate train --config runs/NAME/config.yaml"
_WORD = re.compile(r"'([^']+)'")
_NOT_DECIMAL = re.compile(r"[-+]?0[0-7_]+|.*:.*")  # YAML 1.1 reads these to the bases 8 and 60

# Names of choices in other tools.
_OTHER_WORDS = {"f32": "fp32", "float32": "fp32", "f16": "fp16", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"}


class _Plain(yaml.SafeLoader):
    """Plain YAML: without aliases, a few of which can expand to more text than fits into memory, without merges, and
    without duplicate keys, of which YAML silently takes the last."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse `*name`; otherwise like the safe loader."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "an alias (*name)", event.start_mark)
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Refuse endlessly nested brackets: the scanner would compare each with all open ones."""
        if self.flow_level >= _DEEPEST:
            raise yaml.scanner.ScannerError(None, None, "nesting too deep", self.get_mark())
        super().fetch_flow_collection_start(token)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse `<<` and duplicate keys; otherwise like the safe loader."""
        seen: set[Any] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            where = key_node.start_mark
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "a merge key (<<)", where)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {str(key)[:80]} a second time", where)
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_number(self, node: Any) -> int | float | str:
        """A number that a field can have. YAML also has hexadecimal numbers of any length, which would take long to
        read. 010 and 2:30 stay text, as in YAML 1.2; a field then reads the first as 10."""
        whole = node.tag.endswith(":int")
        value: int | float = -1
        if len(node.value) <= _LONGEST_NUMBER:
            value = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        if len(node.value) > _LONGEST_NUMBER or (whole and abs(value) >= 1 << 64):
            raise yaml.constructor.ConstructorError(None, None, "a number of too many digits", node.start_mark)
        return node.value if _NOT_DECIMAL.fullmatch(node.value) else value

    def construct_switch(self, node: Any) -> bool | str:
        """True or false. `on`, `off`, `yes` and `no` stay text, as in YAML 1.2: a field may have them as choices."""
        value: bool = self.construct_yaml_bool(node)
        return value if node.value.lower() in ("true", "false") else str(node.value)


for _kind in ("int", "float"):
    _Plain.add_constructor(f"tag:yaml.org,2002:{_kind}", _Plain.construct_number)
_Plain.add_constructor("tag:yaml.org,2002:bool", _Plain.construct_switch)


@cache  # type hints take milliseconds, and every field that is set needs the names
def field_names(kind: type[Any] = Config, prefix: str = "") -> tuple[str, ...]:
    """Every dotted field of the tree, in order: `data.source`, `data.size`, …, `seed`."""
    names: list[str] = []
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        nested = isinstance(inner, type) and dataclasses.is_dataclass(inner)
        names += field_names(inner, f"{prefix}{field.name}.") if nested else [prefix + field.name]
    return tuple(names)


def get_field(config: Config, name: str) -> Any:
    """The value of a dotted field; None where there is no such field."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def config_to_dict(config: Config) -> dict[str, Any]:
    """Plain nested values; tuples become lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple | list) else value

    values: dict[str, Any] = plain(dataclasses.asdict(config))
    return values


def config_to_yaml(config: Config) -> str:
    """The text of config.yaml."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True, width=110)


def config_from_dict(values: Mapping[str, Any], where: str, option: Callable[[str], str] = "{}:".format) -> Config:
    """The configuration with these values, nested or dotted, all checked. Raises ConfigError for the first wrong one;
    its remedy names the field as `option` does, by default as in a file, and so does its place unless there is a
    `where`."""
    from pydantic import ValidationError

    values = _nested(values, where, option)
    try:
        config = _validator().validate_python(values)
    except ValidationError as error:
        first, name = error.errors()[0], _field_at(error.errors()[0]["loc"])
        # A field with several types has an error for each of them.
        expected = dict.fromkeys(
            _expectation(one, get_field(Config(), name)) for one in error.errors() if _field_at(one["loc"]) == name
        )
        raise ConfigError(
            _place(where, name, option),
            reprlib.repr(first["input"]),
            ", or ".join(expected),
            _meant(name, first["input"], error.errors(), option)
            or _begun(name, first, option)
            or remedy_of(name, option),
        ) from None
    _refuse_booleans(values, config, where, option)
    return config


def _place(where: str, name: str, option: Callable[[str], str]) -> str:
    short = "" if option(name) == f"--{name}" else f" ({name})"
    return f"{where}: {name}" if where else f"{option(name)}{short}"


def _field_at(location: tuple[int | str, ...]) -> str:
    """The field at a location of pydantic: its last parts may be names of union branches."""
    path, known = [str(part) for part in location], set(field_names())
    return next((".".join(path[:n]) for n in range(len(path), 0, -1) if ".".join(path[:n]) in known), ".".join(path))


@cache
def _validator() -> TypeAdapter[Config]:
    from pydantic import TypeAdapter

    return TypeAdapter(Config)


def config_from_yaml(path: Path) -> Config:
    """Read a configuration file. Raises ConfigError for a missing file, invalid YAML, or a wrong value."""
    return config_from_dict(read_yaml(path), str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file of plain values. Raises ConfigError; also for a file that would take endless time or
    memory (aliases, deep nesting), and for anything but a plain file."""
    try:
        text = read_bytes(path, _LARGEST_FILE).decode("utf-8")
    except RunError as error:
        raise ConfigError(
            str(path), error.got, f"a YAML file of at most {_LARGEST_FILE:,} bytes", _FROM_A_RUN
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(str(path), reason, "a readable YAML file", _FROM_A_RUN) from None
    remedy = "compare with the config.yaml of a run"
    try:
        values = yaml.load(text, _Plain)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "no YAML"
        raise ConfigError(f"{path}{line}", problem, "plain YAML as striate writes it", remedy) from None
    except RecursionError:
        raise ConfigError(str(path), "nesting too deep", "plain YAML", remedy) from None
    except (ValueError, TypeError, OverflowError, KeyError, AttributeError) as error:
        # Numbers of thousands of digits, a 31st of February: the YAML constructors check nothing.
        raise ConfigError(str(path), f"a value that cannot be read: {str(error)[:200]}", "plain YAML", remedy) from None
    if not isinstance(values, dict):
        got = {type(None): "no fields: the file is empty", list: "a list"}.get(type(values), "a single value")
        raise ConfigError(str(path), got, "fields and their values", "write `optim: {lr: 0.01}`")
    return values


def with_fields(config: Config, fields: Mapping[str, Any], where: str = "") -> Config:
    """The configuration with dotted fields replaced; text is parsed as YAML (`"0.1"`, `"true"`, `"[32, 32]"`)."""
    values = config_to_dict(config)
    known = field_names()
    for name, value in fields.items():
        value = _parse(name, value) if isinstance(value, str) else value
        if name not in known:
            raise _unknown(name, value, where, option_of)
        *sections, last = name.split(".")
        target = values
        for section in sections:
            target = target[section]
        target[last] = value
    return config_from_dict(values, where, option_of)


def _parse(name: str, text: str) -> Any:
    """Lists, mappings and null are read as YAML; pydantic turns other text into numbers and booleans."""
    if name == "data.channels" and text.isdecimal():
        return int(text)  # pydantic does not accept text for a Literal of numbers
    if not text.startswith(("[", "{")) and text not in ("null", "None"):
        return text
    try:
        return None if text == "None" else yaml.load(text, _Plain)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError, KeyError, AttributeError):
        return text


def _nested(values: Mapping[str, Any], where: str, option: Callable[[str], str]) -> dict[str, Any]:
    """The fields in their sections. Raises ConfigError for an unknown field, and for one that is given both nested and
    dotted."""
    tree: dict[str, Any] = {}
    for name, value in _given(values, where, option):
        *sections, last = name.split(".")
        target = tree
        for section in sections:
            target = target.setdefault(section, {})
        if last in target:
            got = f"both {reprlib.repr(target[last])} and {reprlib.repr(value)}"
            raise ConfigError(_place(where, name, option), got, "one value", f"leave out {name}: {reprlib.repr(value)}")
        target[last] = pair_of(value) if name == "data.size" else value
    return tree


def _given(
    values: Mapping[str, Any], where: str, option: Callable[[str], str], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    known = field_names()
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name in known:
            yield name, value
        elif isinstance(value, Mapping) and _fields_in(name):
            yield from _given(value, where, option, f"{name}.")
        else:
            raise _unknown(name, value, where, option)


def pair_of(size: object) -> object:
    """Height and width of a size in pixels, such as `96` or `96x128`; any other value unchanged."""
    if isinstance(size, str) and re.fullmatch(r"\d+(x\d+)?", size):
        return size.split("x") if "x" in size else [size, size]
    return [size, size] if isinstance(size, int) and not isinstance(size, bool) else size


def nearest_field(name: str) -> str | None:
    """The field that an unknown `name` probably means: by other tools' names, by its last part, or by its spelling."""
    known, last = field_names(), name.rsplit(".", 1)[-1]
    lasts = {field.rsplit(".", 1)[-1]: field for field in reversed(known)}
    elsewhere = FIELDS_OF_OTHER_TOOLS.get(last.replace("_", "-"))
    near = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(last, lasts, n=1, cutoff=0.75)
    return elsewhere or lasts.get(last) or (lasts.get(near[0], near[0]) if near else None)


def _fields_in(section: str) -> list[str]:
    return [name for name in field_names() if name.startswith(f"{section}.")]


def _unknown(name: str, value: Any, where: str, option: Callable[[str], str]) -> ConfigError:
    if inner := _fields_in(name):
        got = "a section without fields" if value is None else f"{reprlib.repr(value)} for a section"
        one = (
            next((f"{name}.{key}" for key in value if f"{name}.{key}" in inner), "") if isinstance(value, dict) else ""
        )
        remedy = f"{option(one)} {value[one.rpartition('.')[2]]}" if one else f"leave out {name}, or give one of these"
        return ConfigError(_place(where, name, option), got, f"one of its fields: {listed(inner, 8)}", remedy)
    near, section = nearest_field(name), _fields_in(name.split(".")[0])
    remedy = f"one of {', '.join(section)}" if section else "striate train --help lists the fields"
    written = pasted(value) if isinstance(value, str) else reprlib.repr(value)
    remedy = f"did you mean {near if value is None else f'{option(near)} {written}'}?" if near else remedy
    shown = name if len(name) <= 80 else f"{name[:79]}…"
    return ConfigError(_place(where, shown, option), "no such field", "a field of the configuration", remedy)


def _expectation(error: Any, default: object) -> str:
    message = error["msg"]
    if message.startswith("Predicate"):
        return "file.py:name"
    if isinstance(default, tuple) and default and message.startswith(("Field required", "Tuple should have at most")):
        return f"a list of {several(len(default), 'value')}"
    text = message.removeprefix("Input should be ").removeprefix("Value error, ")
    text = text.replace("a valid string", "text").replace("a valid tuple", "a list")
    text = re.sub("a valid integer, (unable to parse string as an integer|got a number .*)", "a whole number", text)
    text = re.sub("a valid number(, unable to parse string as a number)?", "a number", text)
    text = text.replace("a valid boolean, unable to interpret input", "true or false")
    text = text.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    text = text.replace("greater than", "above").replace("less than", "below")
    text = re.sub(r"at most 1(0{20,}|e\+\d\d)", "a finite number", text)  # a limit that only keeps numbers finite
    text = re.sub(r"(?<![.\d])\d{5,}", lambda digits: f"{int(digits[0]):,}", text)
    if error["type"].startswith(("greater_than", "less_than")) and str(error["input"]).strip("+- ").lower() == "nan":
        text = text if "number" in text else f"a number, {text}"
    return text[0].lower() + text[1:]


def option_of(name: str) -> str:
    """The option of a field: `--epochs`, `--optim.clip`."""
    return SHORT_OPTIONS.get(name, f"--{name}")


def number_begun(text: str, whole: bool = False) -> str | None:
    """The number at the beginning of a text, such as `2` in `2m`; rounded up where it has to be `whole`. A comma is a
    decimal point, or parts thousands in a whole number. None without a number, and for percentages."""
    if re.fullmatch(r"\d+,\d+", text):
        text = text.replace(",", "" if whole and re.search(r",\d{3}$", text) else ".")
    begun = re.match(r"\d+(\.\d+)?(e[-+]?\d{1,2}(?!\d))?(?!.*%)", text, re.IGNORECASE)
    if begun is None:
        return None
    return str(math.ceil(float(begun[0]))) if whole else begun[0]


def _begun(name: str, error: Any, option: Callable[[str], str]) -> str | None:
    """The remedy for a number with a unit: the number alone, rounded up where the field needs a whole one."""
    if error["type"] not in ("int_parsing", "float_parsing"):
        return None
    number = number_begun(str(error["input"]), whole=error["type"] == "int_parsing")
    return f"{option(name)} {number}" if number else None


def _meant(name: str, value: Any, errors: Sequence[Any], option: Callable[[str], str]) -> str | None:
    """The remedy for a misspelled choice, or for a mapping where the field takes text; None elsewhere."""
    if isinstance(value, Mapping) and value and name in ("task.cost", "task.threshold"):
        return f"{option(name)} {','.join(f'{key}={number}' for key, number in value.items())}"
    if not isinstance(value, str):
        return None
    if isinstance(get_field(Config(), name), tuple) and not re.search(r"[\[\]{}]", value):
        return f"{option(name)} {pasted(f'[{value}]') if option(name).startswith('-') else f'[{value}]'}"
    choices = [word for one in errors if one["type"] == "literal_error" for word in _WORD.findall(one["msg"])]
    word = _OTHER_WORDS.get(value.lower(), value.lower())
    near = difflib.get_close_matches(word, choices, n=1)
    return f"did you mean {option(name)} {near[0]}?" if near else None


def remedy_of(name: str, option: Callable[[str], str] = option_of) -> str:
    """What to write in place of a wrong value; `option` gives the field's option."""
    default, written = get_field(Config(), name), option(name)
    if name in _EXAMPLES:
        return _EXAMPLES[name].replace("{}", written)
    if default is None:
        decided = next(text for beginning, text in _DECIDED.items() if name.startswith(beginning))
        return f"leave out {written.removesuffix(':')}: {decided}"
    shown = str(list(default)) if isinstance(default, tuple) else str(default).lower()
    shown = f"'{shown}'" if isinstance(default, tuple) and written.startswith("-") else shown
    return f"leave out {written.removesuffix(':')}, or give its default: {written} {shown}"


def _refuse_booleans(
    values: Mapping[str, Any], config: Any, where: str, option: Callable[[str], str], prefix: str = ""
) -> None:
    """Raise ConfigError for true or false where a number is expected: Python takes True as 1."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            _refuse_booleans(value, getattr(config, key), where, option, f"{name}.")
        elif isinstance(value, bool) and not isinstance(getattr(config, key), bool):
            raise ConfigError(
                _place(where, name, option), str(value).lower(), "a number or a name", remedy_of(name, option)
            )
