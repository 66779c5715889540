"""Our own pages on a phone and on a desk: nothing is wider than the screen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import ganflow, succeeded

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# What sticks out at the right, but for what a box of its own lets be scrolled.
BEYOND = """() => [...document.querySelectorAll('body *')].filter(element => {
  for (let box = element.parentElement; box; box = box.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(box).overflowX)) return false;
  return element.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
}).map(element => element.outerHTML.slice(0, 200))"""


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_no_page_is_wider_than_the_screen(finished: Path, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    root = tmp_path / "digits"
    shutil.copytree(finished, root)
    compared, traced = tmp_path / "compared.html", tmp_path / "traced.html"
    succeeded(ganflow(root, "compare", "1", "workspace", "--html", str(compared)))
    picture = next((root / "artifacts" / "gallery" / "images").glob("*.png"))
    succeeded(ganflow(root, "trace", str(picture), "--html", str(traced)))
    report, verdict = root / "artifacts/gallery/report.html", root / "mlruns/verdict/verdict.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for width in (360, 1280):
            page = browser.new_page(viewport={"width": width, "height": 800})
            for file in (report, verdict, compared, traced):
                page.goto(file.as_uri())
                assert page.evaluate(BEYOND) == [], (file.name, width)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (file.name, width)
        browser.close()
