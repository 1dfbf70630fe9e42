"""What README shows of the recorded runs: a picture, and who is how far behind.

Entry point: `generated`, the files of the verb `generate`. They are made of the committed analyses alone.
"""

from collections.abc import Iterator
from pathlib import Path

from bakeoff.files import PROJECT_ROOT, read_json, replace_marked
from bakeoff.report import figures
from bakeoff.report.index import leaderboard, newest_by_gpu
from bakeoff.report.svg.charts import Words
from bakeoff.report.templates import html_environment
from bakeoff.report.view import RunView
from bakeoff.schema.analysis import Analysis
from bakeoff.tables.text import markdown

PICTURE = PROJECT_ROOT / "docs" / "fastest.svg"


def generated() -> Iterator[tuple[Path, bytes]]:
    """(file, what it must hold): the picture, and README with its table."""
    paths = sorted((PROJECT_ROOT / "results/recorded").glob("*/analysis.json"))
    views = newest_by_gpu([RunView(read_json(path, Analysis)) for path in paths])
    yield PICTURE, picture(views[0])
    page = PROJECT_ROOT / "README.md"
    yield page, replace_marked(page.read_text(encoding="utf-8"), "fastest", table(views), page).encode()


def picture(view: RunView) -> bytes:
    """A file of its own: how far each solution is behind the fastest of every workload."""
    words = Words(
        title=f"Percent behind the fastest at every workload, on one {view.gpu}",
        description="One line per workload, named by its tokens; one mark per solution with its 95 % interval.",
        x="more time than the fastest",
    )
    style = html_environment().get_template("picture.css").render()
    return f"{figures.behind(view, words, style=style)}\n".encode()


def table(views: list[RunView]) -> str:
    """Markdown: solutions by GPUs, the time over that of the fastest contestant with its interval."""
    board = leaderboard(views)
    rows = [
        [f"`{name.text}`", *(f"{one.text} ({one.note})" if one.note else one.text for _, one in others)]
        for (_, name), *others in board.rows()
    ]
    return markdown([column.heading for column in board.shown], rows, "---:")
