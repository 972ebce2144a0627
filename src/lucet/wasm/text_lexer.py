"""The text format's tokens: specification, "Text Format / Lexical Format".

Comments and annotations `(@id ...)` are white space. Errors are tokens too (Kind.ERROR, the last one): the parser
reports one when it gets there, so that of two errors in a text the first is reported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from lucet.errors import LimitExceeded
from lucet.limits import MAX_TEXT_TOKENS


class Kind(Enum):
    """What a token is. KEYWORD is any word that begins like one: whether it exists is the parser's question."""

    OPEN = auto()
    CLOSE = auto()
    KEYWORD = auto()
    NAT = auto()
    INT = auto()
    FLOAT = auto()
    STRING = auto()
    ID = auto()
    RESERVED = auto()
    ERROR = auto()
    END = auto()


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A whole text as parallel lists, which one END or ERROR token ends."""

    source: str
    kinds: list[Kind]
    texts: list[str]
    """As written; of an ID the name without its dollar and quotes, of an ERROR the message."""
    starts: list[int]
    """Character offset of each token."""
    closes: dict[int, int]
    """For each OPEN, by index, the index of its CLOSE, or of the last token where there is none."""

    def width(self, index: int) -> int:
        """Characters of a token in the source."""
        match = _TOKEN.match(self.source, self.starts[index])
        return 1 if match is None else match.end() - match.start()


class StringError(ValueError):
    """A string literal that stands for nothing; the argument is the suite's words."""


# Repeated sets of characters are possessive, repeated groups are not: CPython before 3.11.5 (Debian 12 has 3.11.2) does
# not give back what the last, failing round of such a group consumed (python/cpython#106052).
_IDCHARS: Final = r"[0-9A-Za-z!#$%&'*+\-./:<=>?@\\^_`|~]++"
_NUM: Final = r"[0-9]++(?:_[0-9]++)*"
_HEXNUM: Final = r"[0-9a-fA-F]++(?:_[0-9a-fA-F]++)*"
_ESCAPE: Final = rf"\\(?:[tnr\"'\\]|[0-9a-fA-F]{{2}}|u\{{{_HEXNUM}\}})"
_OPEN_STRING: Final = rf'"(?:[^\x00-\x1f"\\\x7f]++|{_ESCAPE})*'

_TOKEN: Final = re.compile(
    "|".join(
        (
            r"(?P<space>(?:[ \t\n\r]++|;;[^\n\r]*+)+)",
            rf'(?P<word>(?:{_IDCHARS}|{_OPEN_STRING}")+)',
            r"(?P<comment>\(;)",
            r"(?P<annotation>\(@)",
            r"(?P<open>\()",
            r"(?P<close>\))",
            r"(?P<reserved>[,;\[\]{}])",
            rf"(?P<unclosed>{_OPEN_STRING})",
        )
    )
)
_COMMENT_EDGE: Final = re.compile(r"\(;|;\)")
_ANNOTATION_ID: Final = re.compile(rf'{_IDCHARS}|{_OPEN_STRING}"')
_STRING: Final = re.compile(rf'{_OPEN_STRING}"')
_NAT: Final = re.compile(rf"(?:0x{_HEXNUM}|{_NUM})")
_INT: Final = re.compile(rf"[+-](?:0x{_HEXNUM}|{_NUM})")
_FLOAT: Final = re.compile(
    r"[+-]?(?:"
    rf"0x{_HEXNUM}(?:\.(?:{_HEXNUM})?)?(?:[pP][+-]?{_NUM})?"
    rf"|{_NUM}(?:\.(?:{_NUM})?)?(?:[eE][+-]?{_NUM})?"
    rf"|inf|nan(?::0x{_HEXNUM})?)"
)


def tokenize(source: str) -> Tokens:
    """All the tokens of a text, in time linear in its length."""
    return _Lexer(source).run()


def unescape(literal: str) -> bytes:
    """The bytes that a string literal, quotes included, stands for."""
    body = literal[1:-1].encode()
    return body if b"\\" not in body else _ESCAPE_BYTES.sub(_unescape_one, body)


def unescape_name(literal: str) -> str:
    """The name that a string literal stands for: its bytes must be UTF-8."""
    try:
        return unescape(literal).decode()
    except UnicodeDecodeError as error:
        raise StringError("malformed UTF-8 encoding") from error


_ESCAPE_BYTES: Final = re.compile(_ESCAPE.encode())
_LETTER_ESCAPES: Final = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b'"': b'"', b"'": b"'", b"\\": b"\\"}


def _unescape_one(match: re.Match[bytes]) -> bytes:
    escape = match[0][1:]
    if escape in _LETTER_ESCAPES:
        return _LETTER_ESCAPES[escape]
    if not escape.startswith(b"u"):
        return bytes.fromhex(escape.decode())
    scalar = int(escape[2:-1].replace(b"_", b""), 16)
    if 0xD800 <= scalar < 0xE000 or scalar >= 0x110000:
        raise StringError("illegal escape")
    return chr(scalar).encode()


class _LexicalError(Exception):
    def __init__(self, message: str, start: int) -> None:
        super().__init__(message)
        self.message = message
        self.start = start


class _Lexer:
    def __init__(self, source: str) -> None:
        self.source = source
        self.kinds: list[Kind] = []
        self.texts: list[str] = []
        self.starts: list[int] = []
        self.opens: list[int] = []
        """The OPENs without a CLOSE yet."""
        self.closes: dict[int, int] = {}
        self.words: dict[str, tuple[Kind, str]] = {}
        """Words seen, classified: texts repeat them."""

    def run(self) -> Tokens:
        try:
            self.scan()
            self.add(Kind.END, "", len(self.source))
        except _LexicalError as error:
            self.add(Kind.ERROR, error.message, error.start)
        for index in self.opens:
            self.closes[index] = len(self.kinds) - 1
        return Tokens(source=self.source, kinds=self.kinds, texts=self.texts, starts=self.starts, closes=self.closes)

    def add(self, kind: Kind, text: str, start: int) -> None:
        self.kinds.append(kind)
        self.texts.append(text)
        self.starts.append(start)

    def scan(self) -> None:
        source, position = self.source, 0
        while position < len(source):
            if len(self.kinds) >= MAX_TEXT_TOKENS:
                raise LimitExceeded(f"text too large: more than {MAX_TEXT_TOKENS} tokens")
            match = self.match(position)
            start, position = position, match.end()
            match match.lastgroup:
                case "word":
                    self.add(*self.classify(match[0], start), start)
                case "open":
                    self.opens.append(len(self.kinds))
                    self.add(Kind.OPEN, "(", start)
                case "close":
                    if self.opens:
                        self.closes[self.opens.pop()] = len(self.kinds)
                    self.add(Kind.CLOSE, ")", start)
                case "comment":
                    position = self.skip_comment(start)
                case "annotation":
                    position = self.skip_annotation(start)
                case "reserved":
                    self.add(Kind.RESERVED, match[0], start)

    def match(self, start: int) -> re.Match[str]:
        match = _TOKEN.match(self.source, start)
        if match is None:
            raise _LexicalError(f"illegal character U+{ord(self.source[start]):04X}", start)
        if match.lastgroup == "unclosed":
            after = self.source[match.end() : match.end() + 1]
            if after in ("", "\n", "\r"):
                raise _LexicalError("unclosed string literal", start)
            raise _LexicalError(
                "illegal escape" if after == "\\" else "illegal control character in string literal", match.end()
            )
        return match

    def classify(self, word: str, start: int) -> tuple[Kind, str]:
        known = self.words.get(word)
        if known is None:
            try:
                known = self.words[word] = _classify(word)
            except StringError as error:
                raise _LexicalError(str(error), start) from error
        return known

    def skip_comment(self, start: int) -> int:
        """Where the block comment that begins at start ends. Block comments nest."""
        depth, position = 1, start + 2
        while depth:
            edge = _COMMENT_EDGE.search(self.source, position)
            if edge is None:
                raise _LexicalError("unclosed comment", start)
            depth += 1 if edge[0] == "(;" else -1
            position = edge.end()
        return position

    def skip_annotation(self, start: int) -> int:
        """Where the annotation that begins at start ends. Its tokens must be tokens, and its parentheses in pairs;
        annotations in it need no id."""
        depth, position = 1, self.skip_annotation_id(start)
        while depth:
            if position >= len(self.source):
                raise _LexicalError("unclosed annotation", start)
            match = self.match(position)
            match match.lastgroup:
                case "open" | "annotation":
                    depth += 1
                case "close":
                    depth -= 1
                case "comment":
                    position = self.skip_comment(position)
                    continue
            position = match.end()
        return position

    def skip_annotation_id(self, start: int) -> int:
        match = _ANNOTATION_ID.match(self.source, start + 2)
        if match is None or match[0] == '""':
            raise _LexicalError("empty annotation id", start)
        if match[0].startswith('"'):
            try:
                unescape_name(match[0])
            except StringError as error:
                raise _LexicalError(str(error), start) from error
        return match.end()


def _classify(word: str) -> tuple[Kind, str]:
    """The token that a run of identifier characters and strings is."""
    first = word[0]
    if first == "$":
        return _classify_id(word)
    if first == '"':
        return (Kind.STRING if _STRING.fullmatch(word) else Kind.RESERVED), word
    for kind, pattern in ((Kind.NAT, _NAT), (Kind.INT, _INT), (Kind.FLOAT, _FLOAT)):
        if pattern.fullmatch(word):
            return kind, word
    return (Kind.KEYWORD if "a" <= first <= "z" and '"' not in word else Kind.RESERVED), word


def _classify_id(word: str) -> tuple[Kind, str]:
    name = word[1:]
    if name in ("", '""'):
        raise StringError("empty identifier")
    if '"' not in name:
        return Kind.ID, name
    if _STRING.fullmatch(name):
        return Kind.ID, unescape_name(name)
    return Kind.RESERVED, word
