"""The best value of a swept setting for each method: how learning rates are chosen, on development data."""

from dataclasses import dataclass

from delta_lora.suite.tables.table import Row, Table, shared_means


@dataclass(frozen=True)
class Choice:
    """What is best for one method.

    method: its name. value: of the setting, as the table writes it. ran, asked: how many values have a score, and how
    many the sweep has. at_end: it is the first or last of several with a score, so that a better one may lie beyond.
    """

    method: str
    value: str
    ran: int
    asked: int
    at_end: bool


def choices(table: Table) -> list[Choice]:
    """For each method with a score the best value of ``table.chooses``, by the average or else the first column.

    Its values are compared on the seeds that all of those with a score have; without such a seed none is best.
    """
    head, column = table.spec.chooses, table.spec.average or table.spec.columns[0]
    if head is None:
        return []
    methods: dict[str, list[Row]] = {}
    for row in table.rows:
        methods.setdefault(row.name.removesuffix(row.settings[head][0]).strip(), []).append(row)
    found = []
    for method, rows in methods.items():
        tried = sorted(rows, key=lambda row: float(row.settings[head][0]))
        scores = shared_means(tried, column)
        if scores:
            best = max(scores, key=lambda i: table.spec.sign(column) * scores[i])
            at_end = len(scores) > 1 and best in (min(scores), max(scores))
            found.append(Choice(method, tried[best].settings[head][0], len(scores), len(tried), at_end))
    return found


def said(table: Table) -> list[str]:
    """One line for a page: each method's value, and what is open about it; nothing where the table chooses nothing."""
    parts = []
    for choice in choices(table):
        part = f"{choice.method} {choice.value}"
        part += f" ({choice.ran} of {choice.asked} tried)" if choice.ran < choice.asked else ""
        parts.append(part + (", at the end of what was tried" if choice.at_end else ""))
    return [f"Best {table.spec.chooses}: {'; '.join(parts)}."] if parts else []


def preset_lines(table: Table) -> list[str]:
    """The choice as a task's preset takes it (``configs/preset``): one line of YAML for each method.

    None where the table's rows are not methods.
    """
    if "method" not in table.spec.rows:
        return []
    name = (table.spec.chooses or "").replace(" ", "_")
    lines = [f"    {one.method.replace('-', '_')}: {{{name}: {one.value}}}" for one in choices(table)]
    return ["  per_method:", *lines] if lines else []
