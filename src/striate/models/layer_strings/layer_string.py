"""Parse a layer string: `parse_layers("conv(16,5) relu pool(2) fc(10)")`; free of torch."""

from __future__ import annotations

from striate.errors import LayerStringError
from striate.models.layer_strings.arguments import Argument, Call, bind, nearest, shorten
from striate.models.layer_strings.fault import Edit, Fault, to_error
from striate.models.layer_strings.spec import Item, Layer, Network, Repeat, Residual
from striate.models.layer_strings.tokens import TOO_LARGE, Token, tokenize
from striate.models.layer_strings.torch_modules import SEQUENTIAL, read_torch, torch_name, torch_spelling
from striate.models.layer_strings.words import MAX_NUMBER, WORDS, Parameter, Value, synonym
from striate.wording import several

MAX_CHARACTERS = 20_000
MAX_LAYERS = 1_000
MAX_DEPTH = 32
# Each costs a few passes over the text.
_MOST_SHRUNK = 8
_LITERALS = ("int", "float", "size", "text")
_FLAT = ("fc", "code", "gap", "flatten")


def parse_layers(text: str) -> Network:
    """The layers of a layer string; LayerStringError, which points at the character, where it cannot be parsed."""
    refuse_long(text)
    try:
        return read_layers(text)
    except Fault as fault:
        raise to_error(text, fault, read_layers) from None


def layers_of_pasted(text: str) -> str:
    """Pasted PyTorch code as a layer string; any other text unchanged."""
    try:
        return str(read_layers(text)) if "nn." in text or torch_name(text.partition("(")[0].strip()) else text
    except Fault:
        return text


def parse_call(text: str, parameters: tuple[Parameter, ...]) -> dict[str, Value]:
    """The given arguments of one call such as `mlp(128,64)`, by parameter name.

    Raises LayerStringError where the call cannot be parsed, or where text follows it.
    """
    refuse_long(text)

    def read(source: str) -> dict[str, Value]:
        parser = _Parser(source)
        call = parser.call(parser.take())
        rest = parser.peek()
        if rest.kind != "end":
            got = f"`{source[rest.start : rest.start + 30]}` after `{call.name}`"
            raise Fault(rest.start, got, "a zoo model without further layers", Edit(call.end, len(source), ""))
        return bind(call, parameters)

    try:
        return read(text)
    except Fault as fault:
        raise to_error(text, fault, read, what="model") from None


def read_layers(text: str) -> Network:
    """Like `parse_layers`, raising the bare Fault."""
    parser = _Parser(text)
    items = parser.items(depth=0)
    _refuse_many(text, items)
    return Network(items, text)


def refuse_long(text: str) -> None:
    """Raise LayerStringError for more than MAX_CHARACTERS characters, before anything is parsed."""
    if len(text) > MAX_CHARACTERS:
        raise LayerStringError(
            text,
            MAX_CHARACTERS,
            f"a layer string of {several(len(text), 'character')}",
            f"at most {MAX_CHARACTERS}",
            "write repeated layers as 3*[ … ], or the network as a function: path/to/file.py:function",
        )


def _refuse_many(text: str, items: tuple[Item, ...]) -> None:
    """Raise Fault for more than MAX_LAYERS layers. Repetitions are counted, not expanded, so a million cost nothing.

    The fix reduces one repetition, the one that passes the limit or the largest first; if that does not suffice,
    several."""
    total = _count(items, {})
    if total <= MAX_LAYERS:
        return
    culprit = _passing(items)
    largest = sorted(items, key=lambda item: (item.position <= culprit.position < item.end, _count((item,), {})))
    repeats = [repeat for item in reversed(largest) for repeat in _repeats(item)][:_MOST_SHRUNK]
    alone: list[Edit | tuple[Edit, ...]] = []
    together: list[Edit] = []
    counts: dict[int, int] = {}
    for repeat in repeats:
        span = repeat.position, text.index("*", repeat.position)
        fits = _fitting(items, {}, repeat)
        if fits > 0:
            alone.append(Edit(*span, str(fits)))
        if _count(items, counts) > MAX_LAYERS:
            counts[repeat.position] = min(repeat.count, max(1, _fitting(items, counts, repeat)))
            together.append(Edit(*span, str(counts[repeat.position])))
    expected = f"at most {MAX_LAYERS} after expansion"
    raise Fault(
        culprit.position,
        several(total, "layer"),
        expected,
        *alone,
        *([tuple(together)] if together else []),
        otherwise=f"write at most {MAX_LAYERS} layers, or the network as a function: path/to/file.py:function",
    )


def _count(items: tuple[Item, ...], counts: dict[int, int]) -> int:
    """Number of layers after expansion; `counts` of repetitions, by position, replace those of the text."""
    total = 0
    for item in items:
        times = counts.get(item.position, item.count) if isinstance(item, Repeat) else 1
        total += 1 if isinstance(item, Layer) else times * _count(item.items, counts)
    return total


def _fitting(items: tuple[Item, ...], counts: dict[int, int], repeat: Repeat) -> int:
    """The largest count of one repetition with which the network has at most MAX_LAYERS; below 1 if there is none."""
    once = _count(items, counts | {repeat.position: 1})
    return 1 + (MAX_LAYERS - once) // (_count(items, counts | {repeat.position: 2}) - once)


def _passing(items: tuple[Item, ...]) -> Item:
    """The innermost item at which the number of layers exceeds the limit."""
    so_far = 0
    for item in items:
        so_far += _count((item,), {})
        if so_far > MAX_LAYERS:
            if isinstance(item, Layer) or _count(item.items, {}) <= MAX_LAYERS:
                return item
            return _passing(item.items)
    return items[-1]


def _repeats(item: Item) -> list[Repeat]:
    """The repetitions of an item, the outer ones first."""
    if isinstance(item, Layer):
        return []
    inner = [repeat for one in item.items for repeat in _repeats(one)]
    return [item, *inner] if isinstance(item, Repeat) else inner


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.index = text, tokenize(text), 0

    def peek(self, ahead: int = 0) -> Token:
        return self.tokens[min(self.index + ahead, len(self.tokens) - 1)]

    def take(self) -> Token:
        token = self.peek()
        self.index += 1
        return token

    def items(self, depth: int, closing: str = "]") -> tuple[Item, ...]:
        """Items up to a closing bracket or the end; those of pasted PyTorch may have commas between them."""
        found: list[Item] = []
        commas = closing == ")"
        while (token := self.peek()).kind not in (closing, "]", "end"):
            if token.kind == "," and commas:
                self.take()
            elif self._is_target():
                self.index += 2
            elif token.kind == "word" and (name := torch_name(str(token.value))):
                found += self._pasted(name, depth)
                commas = True
            else:
                found.append(self._item(depth))
        if depth == 0 and token.kind == "]":
            raise Fault(token.start, "`]` without an opening bracket", "pairs of brackets", Edit(*_span(token), " "))
        if depth == 0 and not found:
            raise Fault(0, "no layer", "layers such as conv(16,5) relu pool(2)", Edit(0, len(self.text), "fc(10)"))
        return tuple(found)

    def _is_target(self) -> bool:
        """Whether `self.conv1 = nn.…` or `conv1 = nn.…` begins here: the layer counts, not its name."""
        first, mark, value = self.peek(), self.peek(1), self.peek(2)
        return first.kind == "word" and mark.kind == "=" and value.kind == "word" and "nn." in str(value.value)

    def _item(self, depth: int) -> Item:
        token = self.peek()
        if token.kind == "word" and token.value == "res" and self.peek(1).kind == "[":
            self.take()
            items, end = self._bracket(token, depth)
            return Residual(items, token.start, end)
        if token.kind == "int" and self.peek(1).kind == "*" and self.peek(2).kind == "[":
            return self._repeat(depth)
        if token.kind == "word" and token.value != "res":
            return self._layer(self.call(self.take()))
        raise self._unexpected(token)

    def _pasted(self, name: str, depth: int) -> tuple[Item, ...]:
        """The layers of a call of torch.nn."""
        word = self.take()
        if name != SEQUENTIAL:
            layer = read_torch(self.call(word, tuples=True))
            return () if layer is None else (layer,)
        opening = self.take()
        if opening.kind != "(":
            remedy = Edit(word.start, opening.start, "")
            raise Fault(word.start, f"`{word.value}` without its layers", f"{word.value}(…)", remedy)
        if depth >= MAX_DEPTH:
            got, edit = f"brackets {depth + 1} deep", Edit(word.start, opening.end, " ")
            raise Fault(opening.start, got, f"at most {MAX_DEPTH}", edit)
        items = self.items(depth + 1, ")")
        if self.take().kind != ")":
            raise _unclosed(opening, Edit(len(self.text), len(self.text), ")"))
        return items

    def _repeat(self, depth: int) -> Repeat:
        number, _ = self.take(), self.take()
        assert isinstance(number.value, int)
        if number.value < 1:
            got = f"{number.value} repetitions"
            raise Fault(number.start, got, "at least 1", Edit(*_span(number), "1"))
        if number.value > MAX_NUMBER:
            got = f"the number {shorten(self.text[number.start : number.end])}"
            raise Fault(number.start, got, f"numbers up to {MAX_NUMBER}", Edit(*_span(number), str(MAX_LAYERS)))
        items, end = self._bracket(number, depth)
        return Repeat(number.value, items, number.start, end)

    def _bracket(self, opener: Token, depth: int) -> tuple[tuple[Item, ...], int]:
        bracket = self.take()
        if depth >= MAX_DEPTH:
            got = f"brackets {depth + 1} deep"
            raise Fault(bracket.start, got, f"at most {MAX_DEPTH}", self._unwrapped(opener.start, bracket))
        items = self.items(depth + 1)
        closing = self.peek()
        if closing.kind == "end":
            raise Fault(bracket.start, "`[` that is not closed", "pairs of brackets", *self._closings(items))
        self.take()
        if not items:
            got = f"`{self.text[opener.start : closing.end]}` with nothing inside"
            inside = Edit(closing.start, closing.start, "relu")
            raise Fault(opener.start, got, "at least one layer", inside, Edit(opener.start, closing.end, ""))
        return items, closing.end

    def _closings(self, items: tuple[Item, ...]) -> list[Edit]:
        """Where a bracket around `items` may end: before the layers that end a network, at the end, or between. Last,
        where one inside may have ended: the closing bracket that is there is then the outer one's."""
        ends = [Edit(item.end, item.end, " ]") for item in items[:-1]]
        inner = [Edit(layer.end, layer.end, " ]") for item in items for layer in _inside(item)[:-1]]
        edits = [Edit(len(self.text), len(self.text), " ]"), *reversed(ends), *inner]
        flat = next((i for i, item in enumerate(items) if isinstance(item, Layer) and item.word in _FLAT), 0)
        return [ends[flat - 1], *edits] if flat else edits

    def call(self, word: Token, *, tuples: bool = False) -> Call:
        """The call that begins with `word`: its parentheses, if any, are read here. `tuples`: arguments may be (3, 5)
        as well as 3x5."""
        name = str(word.value)
        if self.peek().kind != "(":
            self._refuse_unopened(word)
            return Call(name, (), word.start, word.end)
        opening = self.take()
        arguments: list[Argument] = []
        while self.peek().kind != ")":
            if arguments:
                self._comma(opening, arguments)
            if tuples and arguments and self.peek().kind == ")":  # a comma at the end
                break
            arguments.append(self._argument(opening, tuples))
        return Call(name, tuple(arguments), word.start, self.take().end)

    def _refuse_unopened(self, word: Token) -> None:
        """`conv 8,3)`: Fault where arguments and a closing parenthesis follow a word that has no opening one."""
        first, ahead = self.peek(), 0
        names = [parameter.name for parameter in WORDS.get(str(word.value), ())]
        named = first.value in names and self.peek(1).kind == "="
        if not names or not (named or first.kind in _LITERALS):
            return
        while self.peek(ahead).kind in (*_LITERALS, "word", ",", "="):
            ahead += 1
        opened = Edit(word.end, first.start, "(")
        got = f"the arguments of `{word.value}` without `(`"
        if self.peek(ahead).kind == ")":
            raise Fault(word.start, got, "pairs of parentheses", opened)
        end, ahead = word.end, 0
        while self.peek(ahead).kind in _LITERALS and self.peek(ahead + 1).kind not in ("*", "["):
            end = self.peek(ahead).end
            ahead += 2 if self.peek(ahead + 1).kind == "," else 1
        if end > word.end:
            raise Fault(word.start, got, "pairs of parentheses", (opened, Edit(end, end, ")")))

    def _comma(self, opening: Token, arguments: list[Argument]) -> None:
        token, end = self.peek(), arguments[-1].end
        if token.kind == ",":
            self.take()
            return
        if token.kind == "int" and self.peek(1).kind == "*":
            raise _unclosed(opening, Edit(end, token.start, ") "))
        if token.kind == "word" and token.start == end and token.value not in WORDS:
            got = f"`{arguments[-1].written}{self.text[token.start : token.end]}`"
            raise Fault(arguments[-1].start, got, "a number, a size such as 3x5, or a name", Edit(*_span(token), ""))
        following = self._layer_among(arguments) if token.kind not in _LITERALS else None
        if following == 0:
            raise _unclosed(opening, Edit(opening.start, arguments[0].start, " "))
        if following is not None:
            raise _unclosed(opening, Edit(arguments[following - 1].end, arguments[following].start, ") "))
        if token.kind in _LITERALS:
            raise Fault(token.start, "two arguments without a comma", "commas between", Edit(end, token.start, ","))
        raise _unclosed(opening, Edit(end, end, ")"), Edit(end, end, ","))

    def _layer_among(self, arguments: list[Argument]) -> int | None:
        """The first of unclosed arguments that is a layer, or the number of a repetition."""
        for index, argument in enumerate(arguments):
            if argument.name is None and argument.value in (*WORDS, "res"):
                return index
        last, kind = arguments[-1], self.peek().kind
        opens = kind == "*" or (kind in ("(", "[") and isinstance(last.value, str))
        return len(arguments) - 1 if opens and last.name is None else None

    def _argument(self, opening: Token, tuples: bool = False) -> Argument:
        token = self.take()
        name, value = None, token
        if token.kind == "word" and self.peek().kind == "=":
            self.take()
            name, value = str(token.value), self.take()
        if tuples:
            value = self._tuple(value) if value.kind == "(" else self._product(value)
        if value.kind not in (*_LITERALS, "word"):
            if value.kind == "end":
                end = len(self.text)
                raise _unclosed(opening, Edit(end, end, ")"), Edit(opening.start, end, ""))
            got, expected = f"`{value.kind}` where an argument is expected", "a number, a size such as 3x5, or a name"
            before = self.tokens[self.index - 2]
            unclosed = Edit(*_span(before), " ") if before.kind == "(" else Edit(*_span(value), "")
            if value.kind == "(" and before.kind in ("(", ",", "="):
                size = self._tuple(value)
                if self.peek().kind in (")", ","):
                    assert isinstance(size.value, tuple)
                    written = "x".join(map(str, size.value))
                    raise Fault(value.start, got, expected, Edit(value.start, size.end, written), unclosed)
            if before.kind == "(" and value.kind != ",":
                raise _unclosed(opening, unclosed, Edit(*_span(value), ""))
            start = before.start if before.kind in (",", "=") else value.start
            edit = Edit(start, value.end if value.kind == "," else value.start, "")
            raise Fault(value.start, got, expected, edit, Edit(*_span(value), ""))
        written = self.text[value.start : value.end]
        return Argument(name, value.value, token.start, value.start, value.end, written)

    def _product(self, first: Token) -> Token:
        """`16 * 5 * 5` as the number that it is."""
        product, end = first.value, first.end
        while isinstance(product, int) and self.peek().kind == "*" and self.peek(1).kind == "int":
            self.take()
            factor = self.take()
            assert isinstance(factor.value, int)
            product, end = min(product * factor.value, TOO_LARGE), factor.end
        return Token(first.kind, product, first.start, end)

    def _tuple(self, opening: Token) -> Token:
        """`(3, 5)` as the size that it is."""
        sizes: list[int] = []
        while (token := self.take()).kind in ("int", ","):
            if isinstance(token.value, int):
                sizes.append(token.value)
        if token.kind != ")" or not sizes:
            raise _unclosed(opening, Edit(opening.start, opening.end, ""))
        return Token("size", tuple(sizes), opening.start, token.end)

    def _layer(self, call: Call) -> Layer:
        word = call.name
        if word in WORDS:
            self._refuse_layer_inside(call)
            bound = bind(call, WORDS[word])
            return Layer(word, (), call.start, call.end).changed(**bound)
        close = synonym(word) or nearest(word, [*WORDS, "res"])
        if self.peek().kind == "[" and call.end == call.start + len(word):
            close = "res"
        names = [name for name in (torch_spelling(word), close) if name]
        renamed: list[Edit] = [Edit(call.start, call.start + len(word), name) for name in names]
        renamed = [*self._split(call), *renamed]
        guess = f"; did you mean `{close}`?" if close else ""
        everything = " ".join([*WORDS, "res[ … ]", "3*[ … ]"])
        got = f"the unknown layer `{word[:40]}`{guess}"
        raise Fault(call.start, got, everything, *renamed, Edit(call.start, call.end, ""))

    def _refuse_layer_inside(self, call: Call) -> None:
        """`conv(8,3,relu)`: Fault where the last argument is a layer."""
        last = call.arguments[-1] if call.arguments else None
        if last is None or last.name is not None or last.value not in (*WORDS, "res"):
            return
        before = call.arguments[-2].end if len(call.arguments) > 1 else call.start + len(call.name)
        outside = Edit(before, last.start, ") " if len(call.arguments) > 1 else " ")
        got = f"the layer `{last.value}` among the arguments of `{call.name}`"
        raise Fault(last.start, got, "layers separated by spaces", (outside, Edit(last.end, call.end, "")))

    def _split(self, call: Call) -> list[Edit]:
        """`conv8,3)` and `resrelu]`: the bracket that is missing, after the word that the name begins with."""
        edits = []
        for opening, closing in (("(", ")"), ("[", "]")):
            if self._surplus(closing, opening):
                words = ["res"] if opening == "[" else sorted(WORDS, key=len, reverse=True)
                found = next((word for word in words if call.name.startswith(word)), None)
                if found:
                    edits.append(Edit(call.start + len(found), call.start + len(found), opening))
        return edits

    def _surplus(self, closing: str, opening: str) -> bool:
        kinds = [token.kind for token in self.tokens]
        return kinds.count(closing) > kinds.count(opening)

    def _unexpected(self, token: Token) -> Fault:
        shown = self.text[token.start : token.end][:40]
        following = self.peek(1)
        edits: list[Edit | tuple[Edit, ...]] = []
        expected = "a layer"
        if token.kind == "[":
            expected = "`res[ … ]` or a repetition such as `3*[ … ]`"
            edits.append(self._unwrapped(token.start, token))
        elif token.value == "res":
            expected = "`res[ … ]` with the layers of the block in brackets"
            edits += self._bracketed(token.end, 1)
            edits.append(Edit(*_span(token), "res[relu]"))
        elif token.kind == "int" and following.kind == "[":
            edits.append(Edit(token.end, following.start, "*"))
        elif token.kind == "int" and following.kind == "word" and self.peek(2).kind == "[":
            edits.append(Edit(*_span(following), "*"))
        elif token.kind == "int" and following.kind == "*":
            edits += self._bracketed(following.end, 2)
            expected = "brackets around the repeated layers: `3*[ … ]`"
        elif token.kind == ",":
            expected = "layers separated by spaces"
        edits.append(Edit(*_span(token), " "))
        return Fault(token.start, f"`{shown}` where a layer is expected", expected, *edits)

    def _bracketed(self, start: int, ahead: int) -> list[Edit | tuple[Edit, ...]]:
        """Brackets around the call, block or repetition that begins `ahead` tokens from here; where the text lacks a
        `[`, that one, at `start`, first."""
        edits: list[Edit | tuple[Edit, ...]] = []
        if self._surplus("]", "["):
            edits.append(Edit(start, self.peek(ahead).start, "["))
        first, depth, index = self.peek(ahead), 0, self.index + ahead
        if first.kind not in ("word", "int"):
            return edits
        while self.tokens[index + 1].kind != "end":
            token, following = self.tokens[index], self.tokens[index + 1]
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.kind, 0)
            goes_on = following.kind in ("(", "[", "*") or token.kind == "*" or token.value == "res"
            if depth <= 0 and not goes_on:
                break
            index += 1
        end = self.tokens[index].end
        return [*edits, (Edit(start, first.start, "["), Edit(end, end, "]"))]

    def _unwrapped(self, start: int, bracket: Token) -> tuple[Edit, ...]:
        """The opener and its closing bracket removed."""
        opened = Edit(start, bracket.end, " ")
        depth = 0
        for token in self.tokens:
            if token.start >= bracket.start and token.kind in ("[", "]"):
                depth += 1 if token.kind == "[" else -1
                if depth == 0:
                    return opened, Edit(*_span(token), " ")
        return (opened,)


def _inside(item: Item) -> tuple[Item, ...]:
    return () if isinstance(item, Layer) else item.items


def _unclosed(opening: Token, *edits: Edit) -> Fault:
    return Fault(opening.start, "`(` that is not closed", "pairs of parentheses", *edits)


def _span(token: Token) -> tuple[int, int]:
    return token.start, token.end
