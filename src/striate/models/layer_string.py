"""Text to spec, and nothing else: `parse_layers("conv(16,5) relu pool(2) fc(10)")`; free of torch."""

from __future__ import annotations

from striate.errors import LayerStringError
from striate.models.arguments import Argument, Call, bind, nearest
from striate.models.fault import Edit, Fault, to_error
from striate.models.spec import Item, Layer, Network, Repeat, Residual
from striate.models.tokens import Token, tokenize
from striate.models.words import SYNONYMS, WORDS, Parameter, Value

MAX_CHARACTERS = 20_000
MAX_LAYERS = 1_000
MAX_DEPTH = 32


def parse_layers(text: str) -> Network:
    """The spec of a layer string; LayerStringError, pointing at the character, where it cannot be read."""
    _refuse_long(text)
    try:
        return read_layers(text)
    except Fault as fault:
        raise to_error(text, fault, read_layers) from None


def parse_call(text: str, parameters: tuple[Parameter, ...]) -> dict[str, Value]:
    """The arguments of one call such as `mlp(128,64)`, bound to its parameters; only those given.

    Raises LayerStringError where it cannot be read, or where something follows the call.
    """
    _refuse_long(text)

    def read(source: str) -> dict[str, Value]:
        parser = _Parser(source)
        call = parser.call(parser.take())
        rest = parser.peek()
        if rest.kind != "end":
            got = f"`{source[rest.start : rest.start + 30]}` after `{call.name}`"
            raise Fault(rest.start, got, "a zoo model stands alone", Edit(call.end, len(source), ""))
        return bind(call, parameters)

    try:
        return read(text)
    except Fault as fault:
        raise to_error(text, fault, read) from None


def read_layers(text: str) -> Network:
    """Like `parse_layers`, raising the bare Fault."""
    parser = _Parser(text)
    items, _ = parser.items(depth=0)
    return Network(items, text)


def _refuse_long(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise LayerStringError(
            text,
            MAX_CHARACTERS,
            f"a layer string of {len(text)} characters",
            f"at most {MAX_CHARACTERS}",
            "write repeated layers as 3*[ … ], or the network as a function: path/to/file.py:function",
        )


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

    def items(self, depth: int) -> tuple[tuple[Item, ...], int]:
        """Items up to a closing bracket or the end, and how many layers they are once repetitions are expanded."""
        found: list[Item] = []
        total = 0
        while (token := self.peek()).kind not in ("]", "end"):
            item, layers = self._item(depth)
            found.append(item)
            total += layers
            if total > MAX_LAYERS:
                raise self._too_many(token, item, total, layers)
        if depth == 0 and token.kind == "]":
            raise Fault(token.start, "`]` without an opening bracket", "pairs of brackets", Edit(*_span(token), " "))
        if depth == 0 and not found:
            raise Fault(0, "no layer", "layers such as conv(16,5) relu pool(2)", Edit(0, len(self.text), "fc(10)"))
        return tuple(found), total

    def _item(self, depth: int) -> tuple[Item, int]:
        token = self.peek()
        if token.kind == "word" and token.value == "res" and self.peek(1).kind == "[":
            self.take()
            items, layers, end = self._bracket(token, depth)
            return Residual(items, token.start, end), layers
        if token.kind == "int" and self.peek(1).kind == "*" and self.peek(2).kind == "[":
            return self._repeat(depth)
        if token.kind == "word" and token.value != "res":
            return self._layer(self.call(self.take())), 1
        raise self._unexpected(token)

    def _repeat(self, depth: int) -> tuple[Repeat, int]:
        number, _ = self.take(), self.take()
        assert isinstance(number.value, int)
        if number.value < 1:
            got = f"{number.value} repetitions"
            raise Fault(number.start, got, "at least 1", Edit(*_span(number), "1"))
        items, layers, end = self._bracket(number, depth)
        repeat = Repeat(number.value, items, number.start, end)
        # Counted, never expanded: a million repetitions cost nothing here.
        if number.value * layers > MAX_LAYERS:
            raise self._too_many(number, repeat, number.value * layers, number.value * layers)
        return repeat, number.value * layers

    def _bracket(self, opener: Token, depth: int) -> tuple[tuple[Item, ...], int, int]:
        bracket = self.take()
        if depth >= MAX_DEPTH:
            got = f"brackets {depth + 1} deep"
            raise Fault(bracket.start, got, f"at most {MAX_DEPTH}", self._unwrapped(opener.start, bracket))
        items, layers = self.items(depth + 1)
        closing = self.peek()
        if closing.kind == "end":
            end = len(self.text)
            raise Fault(bracket.start, "`[` that is not closed", "pairs of brackets", Edit(end, end, " ]"))
        self.take()
        if not items:
            got = f"`{self.text[opener.start : closing.end]}` with nothing inside"
            inside = Edit(closing.start, closing.start, "relu")
            raise Fault(opener.start, got, "at least one layer", inside, Edit(opener.start, closing.end, ""))
        return items, layers, closing.end

    def call(self, word: Token) -> Call:
        """The call that begins with `word`: its parentheses, if any, are read here."""
        name = str(word.value)
        if self.peek().kind != "(":
            return Call(name, (), word.start, word.end)
        opening = self.take()
        arguments: list[Argument] = []
        while self.peek().kind != ")":
            if arguments:
                self._comma(opening, arguments[-1].end)
            arguments.append(self._argument(opening))
        return Call(name, tuple(arguments), word.start, self.take().end)

    def _comma(self, opening: Token, end: int) -> None:
        token = self.peek()
        if token.kind == ",":
            self.take()
            return
        if token.kind in ("int", "float", "size", "text"):
            raise Fault(token.start, "two arguments without a comma", "commas between", Edit(end, token.start, ","))
        raise Fault(
            opening.start, "`(` that is not closed", "pairs of parentheses", Edit(end, end, ")"), Edit(end, end, ",")
        )

    def _argument(self, opening: Token) -> Argument:
        token = self.take()
        name, value = None, token
        if token.kind == "word" and self.peek().kind == "=":
            self.take()
            name, value = str(token.value), self.take()
        if value.kind not in ("int", "float", "size", "word", "text"):
            if value.kind == "end":
                got, edit = "`(` that is not closed", Edit(len(self.text), len(self.text), ")")
                raise Fault(opening.start, got, "pairs of parentheses", edit, Edit(opening.start, value.end, ""))
            got = f"`{value.kind}` where an argument belongs"
            before = self.tokens[self.index - 2]
            start = before.start if before.kind in (",", "=") else value.start
            edit = Edit(start, value.end if value.kind == "," else value.start, "")
            raise Fault(value.start, got, "a number, a size such as 3x5, or a name", edit, Edit(*_span(value), ""))
        return Argument(name, value.value, token.start, value.start, value.end)

    def _layer(self, call: Call) -> Layer:
        word = call.name
        if word in WORDS:
            bound = bind(call, WORDS[word])
            return Layer(word, (), call.start, call.end).changed(**bound)
        close = SYNONYMS.get(word.lower().replace("_", ""), nearest(word, [*WORDS, "res"]))
        renamed = [Edit(call.start, call.start + len(word), close)] if close else []
        guess = f"; did you mean `{close}`?" if close else ""
        everything = " ".join([*WORDS, "res[ … ]", "3*[ … ]"])
        got = f"the unknown layer `{word[:40]}`{guess}"
        raise Fault(call.start, got, everything, *renamed, Edit(call.start, call.end, ""))

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
            edits.append(Edit(*_span(token), "res[relu]"))
        elif token.kind == "int" and following.kind == "[":
            edits.append(Edit(token.end, following.start, "*"))
        elif token.kind == "int" and following.kind == "word" and self.peek(2).kind == "[":
            edits.append(Edit(*_span(following), "*"))
        elif token.kind == "int" and following.kind == "*":
            edits.append(self._bracketed())
            expected = "brackets around what is repeated: `3*[ … ]`"
        elif token.kind == ",":
            expected = "layers separated by spaces"
        edits.append(Edit(*_span(token), " "))
        return Fault(token.start, f"`{shown}` where a layer belongs", expected, *edits)

    def _bracketed(self) -> tuple[Edit, ...]:
        """Brackets around the call after `3*`."""
        first, depth, index = self.peek(2), 0, self.index + 2
        while self.tokens[index].kind != "end":
            depth += {"(": 1, ")": -1}.get(self.tokens[index].kind, 0)
            if depth == 0 and self.tokens[index + 1].kind != "(":
                break
            index += 1
        end = self.tokens[index].end
        return Edit(first.start, first.start, "["), Edit(end, end, "]")

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

    def _too_many(self, token: Token, item: Item, total: int, layers: int) -> Fault:
        edits: list[Edit | tuple[Edit, ...]] = []
        room = MAX_LAYERS - (total - layers)
        if isinstance(item, Repeat) and (fits := room // (layers // item.count)) > 0:
            edits.append(Edit(*_span(token), str(fits)))
        edits.append(Edit(token.start, item.end, ""))
        return Fault(token.start, f"{total} layers", f"at most {MAX_LAYERS} after expansion", *edits)


def _span(token: Token) -> tuple[int, int]:
    return token.start, token.end
