"""What is printed while a task works is heard, whoever prints it."""

from __future__ import annotations

import sys
import threading

import pytest
from tqdm import tqdm

from flows.overheard import overheard


def test_whole_lines_of_every_thread_are_heard_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    warned: list[str] = []
    with overheard(told.append, warned.append):
        threads = [threading.Thread(target=lambda n=n: [print(f"line {n}") for _ in range(50)]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("in", "parts", end="")
        print(", 100% of it")
        print("a warning", file=sys.stderr)
        print()
    print("afterwards")
    assert sorted(told) == sorted(["in parts, 100% of it", *(f"line {n}" for n in range(4) for _ in range(50))])
    assert warned == ["a warning"]
    out, error = capsys.readouterr()
    assert out.count("\n") == 203 and out.endswith("afterwards\n")
    assert error == "a warning\n"


def test_a_progress_bar_is_no_line_and_what_is_written_above_it_is() -> None:
    told: list[str] = []
    with overheard(told.append, told.append), tqdm(total=3, disable=False) as bar:
        for number in range(3):
            bar.update()
            bar.write(f"score {number}")
    assert told == ["score 0", "score 1", "score 2"]


def test_an_error_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(ValueError, match="no"), overheard(print, print):
        raise ValueError("no")
    assert (sys.stdout, sys.stderr) == before
