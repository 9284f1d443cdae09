"""A small language that selects photos: ``country = 'FR' and taken >= '2019'``.

A text becomes a tree, and the tree becomes SQL in which every value is a parameter and every column one of
those the index knows, so no text can say anything else to the database.

    expression   a or b, a and b, not a, (a)
    comparison   column = value, and != < <= > >=;  column like 'Saint%';  column between a and b
                 column in (a, b);  column is null;  each with not: not like, not in, is not null
    box          box(south, west, north, east): degrees; a box with west > east crosses the date line
    value        'text' ('' for a quote in it), a number, true, false
    column       a name; in double quotes where it is no plain word

``taken`` is compared as precisely as the value is written: ``taken <= '2019'`` holds until the end of 2019.
A photo without a value meets no comparison, negated or not; ask for it with ``is null``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "number", "time", "any"]
"""What a column holds: it is compared to a value of that kind only (the user's own columns: to any)."""

_LONGEST = 20_000
_MOST_COMPARISONS = 200
_DEEPEST = 40
_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_WORDS = ("and", "or", "not", "in", "is", "null", "like", "between", "true", "false")
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")+")
    |(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
    |(?P<word>[^\W\d]\w*)|(?P<sign><=|>=|!=|<>|==|[=<>(),]))""",
    re.VERBOSE,
)
_TIME = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d{1,3})?)?)?)?)?)?")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


@dataclass(frozen=True)
class Filter:
    """Which photos a search may answer with, as text; see the module for the language."""

    text: str

    def compile(self, columns: Mapping[str, tuple[str, Kind]]) -> tuple[str, list[object]]:
        """A SQL condition and its parameters; *columns* maps each known name to its SQL and its kind.

        Raises ``ValueError`` that names the position in the text, counted from 1, and what is known.
        """
        return _Compiler(self.text, columns).compile()


class _Compiler:
    """One pass over the tokens; each method reads its part of the grammar and returns its SQL."""

    def __init__(self, text: str, columns: Mapping[str, tuple[str, Kind]]) -> None:
        self._text, self._columns = text, columns
        self._parameters: list[object] = []
        self._comparisons = self._depth = self._next = 0
        if len(text) > _LONGEST:
            raise ValueError(f"the filter has {len(text)} characters; the longest allowed has {_LONGEST}")
        self._tokens = self._split()

    def compile(self) -> tuple[str, list[object]]:
        sql = self._any_of()
        if self._peek().kind != "end":
            raise self._wrong("expected and, or, or the end")
        return sql, self._parameters

    def _split(self) -> list[_Token]:
        tokens, start = [], 0
        end = len(self._text.rstrip())
        while start < end:
            match = _TOKEN.match(self._text, start)
            if match is None:
                start += len(self._text[start:]) - len(self._text[start:].lstrip())
                what = (
                    "a quote that does not end" if self._text[start] in "'\"" else "a sign it does not know"
                )
                raise ValueError(f"filter: {what} at position {start + 1}: {self._text[start : start + 20]}")
            kind = str(match.lastgroup)
            text = match[kind]
            if kind == "word" and text.lower() in _WORDS:
                kind, text = "keyword", text.lower()
            tokens.append(
                _Token(kind, {"<>": "!=", "==": "="}.get(text, text), match.start(str(match.lastgroup)))
            )
            start = match.end()
        return [*tokens, _Token("end", "the end", end)]

    def _peek(self, ahead: int = 0) -> _Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def _take(self, *texts: str) -> bool:
        token = self._peek()
        found = token.kind in ("keyword", "sign") and token.text in texts
        self._next += found
        return found

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._wrong(f"expected {text}")

    def _wrong(self, what: str, token: _Token | None = None) -> ValueError:
        token = token or self._peek()
        return ValueError(f"filter: {what} at position {token.position + 1}, not {token.text[:40]}")

    def _any_of(self) -> str:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong(f"at most {_DEEPEST} brackets may stand in each other: too deep")
        parts = [self._all_of()]
        while self._take("or"):
            parts.append(self._all_of())
        self._depth -= 1
        return f"({' OR '.join(parts)})"

    def _all_of(self) -> str:
        parts = [self._negation()]
        while self._take("and"):
            parts.append(self._negation())
        return f"({' AND '.join(parts)})"

    def _negation(self) -> str:
        negated = False
        while self._take("not"):
            negated = not negated
        if self._take("("):
            inner = self._any_of()
            self._expect(")")
        else:
            inner = self._comparison()
        return f"(NOT {inner})" if negated else inner

    def _comparison(self) -> str:
        self._comparisons += 1
        if self._comparisons > _MOST_COMPARISONS:
            raise self._wrong(f"at most {_MOST_COMPARISONS} comparisons; use in (...): too many")
        name = self._peek()
        if name.kind == "word" and name.text.lower() == "box" and self._peek(1).text == "(":
            return self._box()
        sql, kind = self._column()
        if self._take("is"):
            negated = self._take("not")
            self._expect("null")
            return f"{sql} IS {'NOT ' if negated else ''}NULL"
        negated = self._take("not")
        word = "NOT " if negated else ""
        if self._take("in"):
            self._expect("(")
            choices = [self._compared(sql, kind, "=")]
            while self._take(","):
                choices.append(self._compared(sql, kind, "="))
            self._expect(")")
            # one list where all choices look alike keeps the SQL flat however long the list is
            return f"({word}({_joined(choices)}))"
        if self._take("like"):
            token = self._peek()
            if kind in ("number", "time") or token.kind != "text":
                raise self._wrong("like compares text: expected a text column and a 'text'")
            value = self._value(kind)
            self._parameters.append(value)
            return f"({sql} {word}LIKE ?)"
        if self._take("between"):
            low = self._compared(sql, kind, ">=")
            self._expect("and")
            return f"({word}({low[0]}{low[1]} AND {_joined([self._compared(sql, kind, '<=')])}))"
        sign = self._peek().text
        if negated or not self._take(*_OPERATORS):
            raise self._wrong("expected in, like or between" if negated else "expected a comparison")
        return f"({_joined([self._compared(sql, kind, sign)])})"

    def _column(self) -> tuple[str, Kind]:
        token = self._peek()
        if token.kind not in ("word", "quoted"):
            raise self._wrong("expected a column")
        name = token.text[1:-1].replace('""', '"') if token.kind == "quoted" else token.text
        if name not in self._columns:
            known = ", ".join(self._columns)
            raise ValueError(
                f"filter: no column {name!r} (position {token.position + 1}; known: {known}); "
                "a text stands in 'single quotes'"
            )
        self._next += 1
        return self._columns[name]

    def _compared(self, sql: str, kind: Kind, sign: str) -> tuple[str, str]:
        """The left side and the rest of a comparison with the value that comes next."""
        value = self._value(kind)
        if kind == "time":
            value = str(value).replace(" ", "T")
            sql = f"substr({sql}, 1, {len(value)})"
        self._parameters.append(value)
        return sql, f" {sign} ?"

    def _value(self, kind: Kind) -> object:
        token = self._peek()
        value: object
        if token.kind == "text":
            value = token.text[1:-1].replace("''", "'")
        elif token.kind == "number":
            value = self._number(token)
        elif token.text in ("true", "false") and token.kind == "keyword":
            value = int(token.text == "true")
        else:
            raise self._wrong("expected a 'text' or a number")
        if kind in ("text", "time") and not isinstance(value, str):
            raise self._wrong("this column holds text: expected a 'text'", token)
        if kind == "number" and isinstance(value, str):
            raise self._wrong("this column holds numbers: expected a number", token)
        if kind == "time" and not is_time(str(value)):
            raise self._wrong("expected a time such as '2019', '2019-07' or '2019-07-14 12:00'", token)
        self._next += 1
        return value

    def _number(self, token: _Token) -> int | float:
        if not re.fullmatch(r"[+-]?\d+", token.text):
            return float(token.text)
        if abs(int(token.text)) >= 2**63:
            raise self._wrong("expected a number below 2^63", token)
        return int(token.text)

    def _box(self) -> str:
        self._next += 2
        edges = []
        for number in range(4):
            if number:
                self._expect(",")
            token = self._peek()
            edges.append(float(str(self._value("number"))))
            if abs(edges[-1]) > (180 if number % 2 else 90):
                raise self._wrong("box(south, west, north, east) is in degrees: out of range", token)
        self._expect(")")
        south, west, north, east = edges
        if south > north:
            raise ValueError(f"filter: box(south, west, north, east) has south {south} above north {north}")
        self._parameters += [south, north, west, east]
        sideways = "AND" if west <= east else "OR"
        latitude, longitude = (self._columns[name][0] for name in ("latitude", "longitude"))
        return f"({latitude} >= ? AND {latitude} <= ? AND ({longitude} >= ? {sideways} {longitude} <= ?))"


def _joined(choices: list[tuple[str, str]]) -> str:
    """Comparisons of which any may hold; a run with one left side becomes one ``IN``."""
    if len(choices) == 1:
        return choices[0][0] + choices[0][1]
    lefts: dict[str, int] = {}
    for left, _ in choices:
        lefts[left] = lefts.get(left, 0) + 1
    if len(lefts) == 1:
        return f"{choices[0][0]} IN ({', '.join('?' * len(choices))})"
    return "(" + " OR ".join(left + rest for left, rest in choices) + ")"


def is_time(text: str) -> bool:
    """Whether *text* is a time as ``taken`` holds it, or the beginning of one: ``2019-07-14T12:00:05.123``."""
    return _TIME.fullmatch(text) is not None


def json_path(name: str) -> str:
    """How SQLite's JSON functions spell the member *name* of an object."""
    return "$." + json.dumps(name, ensure_ascii=False)
