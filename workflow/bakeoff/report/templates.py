"""The two Jinja environments: the same content templates written once as HTML and once as GitHub Markdown.

Every value that comes from data is escaped for the language it is written in; only the templates' own text is markup.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined
from markupsafe import Markup, escape

from bakeoff.files import PROJECT_ROOT
from bakeoff.report import charts, formats

TEMPLATES = PROJECT_ROOT / "report_templates"
_MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]|~#])")


def html_environment(folder: Path = TEMPLATES) -> Environment:
    """For pages: data is escaped as HTML."""
    return _environment(folder, finalize=_refuse_none)


def markdown_environment(folder: Path = TEMPLATES) -> Environment:
    """For GitHub Markdown: data is escaped as Markdown and as the HTML that Markdown lets through."""
    return _environment(
        folder, finalize=lambda value: _refuse_none(value) if isinstance(value, Markup) else markdown_text(value)
    )


def _environment(folder: Path, finalize: Callable[[Any], Any]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=finalize,
    )
    environment.filters.update({name: getattr(formats, name) for name in _FORMATS}, squeeze=squeeze, verbatim=verbatim)
    environment.globals.update(charts=charts, Words=charts.Words, sample=charts.sample, listed=formats.listed)
    return environment


_FORMATS = (
    "fixed",
    "speedup",
    "published",
    "percent",
    "signed_percent",
    "count",
    "significant",
    "duration",
    "data_size",
    "flag",
    "plural",
)


def _refuse_none(value: Any) -> Any:
    """A missing value must be worded (formats.MISSING or a sentence), never printed as None."""
    if value is None:
        raise ValueError("a template printed a missing value without wording it")
    return value


def markdown_text(value: Any) -> Any:
    """Data as Markdown text that shows exactly its own characters, on one line."""
    if isinstance(value, Undefined):
        return value  # its use raises, with the name
    text = " ".join(str(_refuse_none(value)).split())
    return Markup(_MARKDOWN_SIGNS.sub(r"\\\1", str(escape(text)).replace("&#39;", "'").replace("&#34;", '"')))


def squeeze(value: object) -> object:
    """White space of a template's layout as single spaces."""
    text = " ".join(str(value).split())
    return Markup(text) if isinstance(value, Markup) else text


def verbatim(value: object) -> Markup:
    """Text inside a Markdown code fence, where nothing is escaped. A fence inside it would end it: refused."""
    text = str(value)
    if "```" in text:
        raise ValueError("a code fence inside a code fence")
    return Markup(text)


def tidy_markdown(text: str) -> str:
    """No trailing spaces, one empty line between blocks, table rows without gaps, one newline at the end."""
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def tidy_html(text: str) -> str:
    """The same page without the empty and indented lines that template blocks leave; nothing inside <pre> spans lines of blanks."""
    lines = (line.rstrip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line.strip()) + "\n"
