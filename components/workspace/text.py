"""Text of strangers, such as names of files and classes, as it may be shown and written: it commands nothing."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

# Control characters, line and paragraph separators, lone surrogates, and format characters, of which some turn the
# direction of writing and others are not seen. The two that join letters, which scripts and emoji need, stay.
_COMMANDS = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_JOINERS = "\u200c\u200d"
_UNDECODED = range(0xDC80, 0xDD00)
# What spreadsheets take for a formula, and the sign that keeps them from it.
_FORMULAS, _MARK = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20"), "'"
# Marks that chats read as a mention, a link or a command, and what looks like them.
_CHAT = str.maketrans({"<": "\u2039", ">": "\u203a", "@": "\uff20"})
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>()#+!|~$&]")
# Within what Markdown takes for an address where none is marked: GitHub's and MLflow's do so after entities were read,
# so that only a letter in between helps. The word joiner is not seen.
_ADDRESS, _WORD_JOINER = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE), "\u2060"


def printable(text: str, keep: str = "") -> str:
    r"""Return `text` on one line, with what commands a terminal or cannot be encoded as escapes such as `\x1b`.

    Letters of every alphabet stay; so do the characters in `keep`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(letter) if unicodedata.category(letter) in _COMMANDS and letter not in _JOINERS + keep else letter
        for letter in text
    )


def _escaped(letter: str) -> str:
    # How Python writes a byte of a name that is no UTF-8.
    return f"\\x{ord(letter) - 0xDC00:02x}" if ord(letter) in _UNDECODED else ascii(letter)[1:-1]


def shown(name: bytes) -> str:
    """Return the name of a file as text that may be shown."""
    return printable(name.decode("utf-8", "surrogateescape"))


def shortened(text: str, length: int = 200) -> str:
    """Return the beginning of a text that is longer than a sentence has room for."""
    return text if len(text) <= length else f"{text[: length - 4]} ..."


def said_in_chat(text: str) -> str:
    """Return `text` without what a chat takes for a mention or a link; look-alikes stand in their places."""
    return printable(text).translate(_CHAT).replace("](", "] (").replace("://", ":\u2044\u2044")


def in_markdown(text: str) -> str:
    """Return `text` as Markdown shows it literally, in tables too: no mark-up, picture or address comes of it."""
    return _MARKDOWN.sub(lambda mark: f"&#{ord(mark[0])};", _ADDRESS.sub(_WORD_JOINER, printable(text)))


def cell(text: str) -> str:
    """Return `text` for a CSV file, where no spreadsheet takes it for a formula; `uncelled` undoes it."""
    return f"{_MARK}{text}" if text.startswith((*_FORMULAS, _MARK)) else text


def uncelled(text: str) -> str:
    """Return what `cell` was given."""
    return text.removeprefix(_MARK)


def write_table(file: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write texts as a CSV file in UTF-8, each by `cell`."""
    with file.open("w", encoding="utf-8", newline="") as target:
        _write_rows(target, columns, rows)


def _write_rows(target: TextIO, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(printable(text)) for text in row] for row in rows)
