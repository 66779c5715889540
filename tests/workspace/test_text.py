"""Names of strangers, shown and written: they command no terminal, spreadsheet, page or chat."""

from __future__ import annotations

import csv
import html
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.workspace.text import cell, in_markdown, printable, said_in_chat, shown, uncelled, write_table
from components.workspace.yaml_text import read_yaml
from tests.conftest import PROJECT


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("\x1b]0;OWNED\x07\x1b[2J", r"\x1b]0;OWNED\x07\x1b[2J"),
        ("line\nganflow: all is well\r", r"line\nganflow: all is well\r"),
        ("photo\u202egnp.exe", r"photo\u202egnp.exe"),
        ("\u2028\u2066\ufeff\x9b31m", r"\u2028\u2066\ufeff\x9b31m"),
        ("\udcff\udcfe.png", r"\xff\xfe.png"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_commands_is_escaped(text: str, harmless: str) -> None:
    assert printable(text) == harmless
    harmless.encode()


@pytest.mark.parametrize(
    "text",
    [
        "猫",
        "\u041a\u043e\u0448\u043a\u0430",
        "café",
        "नमस्ते",
        "a\u00a0b",
        "\u0645\u06cc\u200c\u062e\u0648",
        "👩\u200d🚀",
        "a\\nb 100%",
    ],
)
def test_every_alphabet_stays(text: str) -> None:
    assert printable(text) == text


def test_names_that_are_no_utf8_are_shown_by_their_bytes() -> None:
    assert shown(b"\xff\x1b.png") == r"\xff\x1b.png"


@given(st.text(max_size=30))
@example("=cmd|' /C calc'!A0")
@example("'=1")
@example("-n")
@example("\uff1d1+1")
def test_no_cell_is_a_formula_and_each_can_be_read_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("table") / "t.csv"
    write_table(file, ("path", "reason"), [(text, "r")])
    with file.open(encoding="utf-8", newline="") as source:
        (_, (read, _)) = csv.reader(source)
    assert not read.startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"))
    assert uncelled(read) == printable(text)
    assert uncelled(cell(text)) == text


def test_chats_and_markdown_get_no_commands() -> None:
    said = said_in_chat("class <!channel> @everyone [x](https://evil.example) <https://evil.example|here>")
    assert not {"<", ">", "@"} & {*said}
    assert "](" not in said and "://" not in said
    shown_ = in_markdown("a | b ![x](https://evil.example/x.png) <img src=x> `c` **d**\n# e")
    assert not {"|", "!", "[", "]", "<", ">", "`", "*", "\n"} & {*shown_}
    assert "://" not in shown_


@pytest.mark.parametrize(
    "name", ["https://evil.example/x", "WWW.evil.example", "x www.evil.example", "me@evil.example"]
)
def test_markdown_makes_no_address_of_a_name(name: str) -> None:
    # By what GitHub and react-markdown (MLflow's pages) look for once entities are read: remark-gfm's own patterns.
    read = html.unescape(in_markdown(name))
    assert not re.search(r"https?://|www(?=\.)|[-.\w+]+@[-\w]+(?:\.[-\w]+)+", read, re.IGNORECASE)
    assert read.replace("\u2060", "") == name


def test_what_the_command_prints_commands_no_terminal(tmp_path: Path) -> None:
    """Also where the locale knows no letters but ASCII's."""
    code = (
        "import sys; from flows.cli import main; main.app = lambda: print('a\\x1b[2Jb\\u202e\\udcff', '猫');"
        "main.main(); main._fail('c\\x1b]0;x\\x07\\nganflow: all is well', 2)"
    )
    for encoding in ("utf-8", "ascii"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=PROJECT,
            env={"PATH": "", "PYTHONIOENCODING": encoding, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stdout.startswith(rb"a\x1b[2Jb\u202e\xff ")
        assert done.stderr == b"ganflow: c\\x1b]0;x\\x07\\nganflow: all is well\n"


def bomb(last: str, first: str = "[x, x, x, x, x, x, x, x, x]", form: str = "[{}]") -> str:
    lines = [f"a: &a {first}"]
    lines += [f"{n}: &{n} {form.format(', '.join([f'*{chr(ord(n) - 1)}'] * 9))}" for n in "bcdefghij"]
    return "\n".join([*lines, last])


@pytest.mark.parametrize(
    "text",
    [
        bomb("train: *j"),
        bomb("k: 1", "{x: 1}", "{{<<: [{}]}}"),
        "a: &a [*a]",
        "[" * 10_000,
        "a: " + "9" * 5_000,
        "a: 2001-99-99",
        "!!timestamp x",
        "!!int ''",
        "x" * 300_000,
    ],
    ids=lambda text: text[:12],
)
def test_yaml_says_no_more_than_it_looks(text: str) -> None:
    with pytest.raises(ValueError) as error:
        read_yaml(text)
    assert len(str(error.value)) < 1_000


def test_yaml_may_name_what_it_repeats() -> None:
    assert read_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": [{"x": 1}, {"x": 1}],
    }
