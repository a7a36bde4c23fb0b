"""A table on the terminal."""

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from delta_lora.suite.pages.texts import first_capital
from delta_lora.suite.pages.view import Entry, TableView


def terminal(view: TableView) -> RenderableType:
    """For ``rich.print``: the table, the warning, the shape, and how the claims fared."""
    grid = Grid(title=Text(view.title), caption=Text(view.warning) if view.warning else None, show_lines=False)
    for column in view.columns:
        grid.add_column(Text(column.head), justify="right" if column.score else "left")
    for line in view.lines:
        grid.add_row(*(terminal_entry(entry) for entry in line))
    parts: list[RenderableType] = [grid]
    lines = ["Upper line: ours", *(["below: the paper's"] if view.of_paper else [])]
    both = ", ours / the paper’s" if view.of_paper else ""
    lines += [f"last: the gain over {view.base}{both}, on the seeds that both rows have"] if view.base else []
    if len(lines) > 1:
        parts.append(Text(f"{'; '.join(lines)}.", style="dim"))
    parts += map(Text, view.diverged)
    if view.shape is not None:
        shape = Grid(*view.shape.heads, title="Shape")
        for texts in view.shape.lines:
            shape.add_row(*map(Text, texts))
        parts.append(shape)
    return Group(
        *parts, *(Text(f"{claim.says}. {first_capital(claim.verdict)}; {claim.summary}.") for claim in view.claims)
    )


def terminal_entry(entry: Entry) -> Text:
    """Ours, and below it, dim, the paper's, and both gains."""
    text = Text(entry.text, style="bold" if entry.best else "")
    for below in (entry.paper, entry.gains):
        if below:
            text.append(f"\n{below}", style="not bold dim")
    return text
