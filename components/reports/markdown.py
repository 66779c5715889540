"""Cards as Markdown: templates in which every value is escaped, and YAML that cannot end early.

Where cards are read, in MLflow's pages and on the Hub, names come from folders and files of others: none may become
markup in Markdown, HTML or YAML.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup
from .html import number, sentence


def to_markdown(template: str, **values: Any) -> str:
    """Fill in a template of this folder: what is not marked as Markdown is made plain."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    import jinja2
    from markupsafe import Markup

    def finalize(value: object) -> Markup:
        return value if isinstance(value, Markup) else Markup(plain(str(value)))

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        # So that what a macro returns counts as Markdown; `finalize` escapes before HTML's own would.
        autoescape=True,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "count": "{:,}".format, "percent": "{:.1%}".format, "sentence": sentence}
    environment.filters |= {
        "plain": lambda text, width: Markup(plain(text, width)),
        "code": lambda text: Markup(f"`{code(text)}`"),
        "fenced": lambda text, language: Markup(fenced(language, text)),
        "yaml": lambda values: Markup(fenced("yaml", as_yaml(values))),
        "front_matter": lambda facts: Markup(f"---\n{as_yaml(facts, None)}---\n"),
    }
    return environment


def as_yaml(values: Any, flow: bool | None = False) -> str:
    """Write YAML; `flow`: None writes the innermost lists and mappings on one line each."""
    import yaml

    # Without folding, so that no line within a value can look like the end of the YAML.
    return yaml.safe_dump(values, sort_keys=False, width=1_000_000, default_flow_style=flow, allow_unicode=True)


def fenced(language: str, text: str) -> str:
    """Return a block of code whose fence is longer than any within."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def code(text: str) -> str:
    """Return `text` without what would end a piece of code or a table's cell."""
    return re.sub(r"[`|\s<>&]+", " ", text).strip()


def bare(text: str) -> str:
    """Return `text` without anything but words: MLflow's page shows the YAML as Markdown too."""
    return " ".join(re.sub(r"[^\w.,-]+", " ", text).split())


def plain(text: str, width: int = 1_000) -> str:
    """Return `text` as Markdown on one line of at most `width` characters, of which none is markup.

    Entities do what backslashes do not in every dialect.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = re.sub(r"[\\`*_\[\]<>&|#~!:@$^={}\"']", lambda match: f"&#{ord(match[0])};", line)
    return line if len(line) <= width else re.sub(r"&[^;]*$", "", line[: width - 1]) + "\u2026"
