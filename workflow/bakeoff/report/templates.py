"""The two Jinja environments: the same content templates written once as HTML and once as GitHub Markdown.

Every value that comes from data is escaped for the language it is written in; only the templates' own text is markup.
"""

import contextlib
import functools
import html
import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined, Undefined, pass_context
from jinja2.bccache import Bucket
from jinja2.runtime import Context
from markupsafe import Markup, escape

from bakeoff.files import PROJECT_ROOT, sha256_file
from bakeoff.report.svg import charts, elements
from bakeoff.tables import formats, words

TEMPLATES = PROJECT_ROOT / "report_templates"
_LAYOUT = re.compile(r"[ \t\r\n]+")  # not the space between a figure and its unit
# An underscore inside a word is plain text to GitHub; at a word's edge it is not.
_MARKDOWN_SIGNS = re.compile(r"[\\`*\[\]|~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


@functools.cache
def html_environment(folder: Path = TEMPLATES) -> Environment:
    """For pages: data is escaped as HTML."""
    return _environment(folder, finalize=lambda _, value: _refuse_none(value), plain=escape)


@functools.cache
def markdown_environment(folder: Path = TEMPLATES) -> Environment:
    """For GitHub Markdown: data is escaped as Markdown and as the HTML that Markdown lets through."""

    def finalize(_: Context, value: Any) -> Any:
        return _refuse_none(value) if isinstance(value, Markup) else markdown_text(value)

    return _environment(folder, finalize=finalize, plain=markdown_text)


class _Compiled(FileSystemBytecodeCache):
    """Compiled templates, which both languages share: `finalize`, in which they differ, acts as a template runs.

    As far as Python may keep compiled modules, templates are kept beside this package's own. What is kept goes by the
    template, by the versions of Jinja and Python, and by this file, which sets what they are compiled with.
    """

    def __init__(self) -> None:
        settings = f"jinja-{version('jinja2')}-{sha256_file(Path(__file__))[:12]}"
        super().__init__(str(Path(cache_from_source(__file__)).parent), f"{settings}-%s.cache")
        self._code: dict[tuple[str, str], Any] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._code.get((bucket.key, bucket.checksum))
        if bucket.code is None:
            super().load_bytecode(bucket)
            self._code[bucket.key, bucket.checksum] = bucket.code

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key, bucket.checksum] = bucket.code
        if not sys.dont_write_bytecode:
            with contextlib.suppress(OSError):
                super().dump_bytecode(bucket)


_COMPILED = _Compiled()


def _environment(folder: Path, finalize: Callable[[Context, Any], Any], plain: Callable[[Any], Any]) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        bytecode_cache=_COMPILED,
        optimized=False,  # each template runs once: compiling costs more than it saves
        undefined=StrictUndefined,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=pass_context(finalize),
    )
    environment.filters.update(
        {name: getattr(formats, name) for name in _FORMATS}, squeeze=squeeze, verbatim=verbatim, breakable=breakable
    )
    environment.filters["ticked"] = lambda text: ticked(text, plain)
    environment.globals.update(
        {"charts": charts, "Words": charts.Words, "sample": elements.sample, "marks": elements.definitions},
        listed=formats.listed,
        lists=words,
    )
    return environment


_FORMATS = (
    "fixed",
    "speedup",
    "percent",
    "signed_percent",
    "count",
    "significant",
    "duration",
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
    text = _LAYOUT.sub(" ", str(_refuse_none(value)))
    return Markup(_MARKDOWN_SIGNS.sub(lambda found: f"\\{found[0]}", html.escape(text, quote=False)))


def squeeze(value: object) -> object:
    """White space of a template's layout as single spaces; none at the ends."""
    text = _LAYOUT.sub(" ", str(value)).strip(" ")
    return Markup(text) if isinstance(value, Markup) else text


def ticked(text: str, plain: Callable[[Any], Any]) -> Markup:
    """The harness's own words, in which backticks enclose code."""
    parts = [plain(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )


def breakable(value: object) -> Markup:
    """A heading whose line may break after an underscore, so that long solution names do not widen a table."""
    return Markup(str(escape(value)).replace("_", "_<wbr>"))


def verbatim(value: object) -> Markup:
    """Text inside a Markdown code fence, where nothing is escaped. A fence inside it would end it: refused."""
    text = str(value)
    if "```" in text:
        raise ValueError("a code fence inside a code fence")
    return Markup(text)


def tidy_markdown(text: str) -> str:
    """No trailing spaces, one empty line between blocks and none inside a table or a list, one newline at the end."""
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in text.split("\n")))
    for start in (r"\|", "- "):
        text = re.sub(rf"(?m)^({start}.*)\n\n(?={start})", r"\1\n", text)
    return text.strip("\n") + "\n"


def tidy_html(text: str) -> str:
    """The same page without the empty and indented lines that template blocks leave; nothing inside <pre> spans lines
    of blanks."""
    lines = (line.rstrip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line.strip()) + "\n"
