"""A table as markdown, CSV, LaTeX and on the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from omegaconf import OmegaConf
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from delta_lora.errors import UserError
from delta_lora.suite import layout
from delta_lora.suite.claims import Claim, check_claims
from delta_lora.suite.cli import CONFIGS
from delta_lora.suite.compare import PairedBootstrap, Verdict, resampler_of
from delta_lora.suite.grid import compose_grid
from delta_lora.suite.layout import Entry
from delta_lora.suite.records import read_runs, write_text
from delta_lora.suite.tables import COUNTS, Table, build_table

CLAIM_HEADS = ["Comparison", "Paper's gain", "Our gain", "95 % interval", "Verdict"]
LONG = 8  # lines of comparisons that a page shows without being asked
CLAIM_NOTE = (
    "A gain is positive where the claim holds, also for scores of which a low one is good. Interval: a paired "
    "bootstrap over the test items (1,000 resamples), and over the seeds where there are several. Reproduced: it "
    "lies above 0; not reproduced: it lies below; within noise: it holds 0."
)


def render_table(overrides: Sequence[str]) -> tuple[Table, list[Claim], list[Path]]:
    """Build a table from the finished runs, hold its claims against them, and write its files.

    Args:
        overrides: as ``scripts/train.py -m`` takes them: ``["table=table1", "scale=tiny", "seed=1,2,3"]``.

    Returns:
        The table, its claims and the files below ``<results_dir>/<scale>``.

    Raises:
        UserError: no such table, or not one finished run of it; it names the command that makes them.
        HydraException, OmegaConfBaseException: Hydra cannot compose the overrides.
    """
    grid = compose_grid(overrides)
    if "table" not in grid.config:
        raise UserError(f"no table in {' '.join(overrides) or 'the arguments'}; give one of {', '.join(tables())}")
    results = Path(grid.config.results_dir)
    table = build_table(grid, read_runs(results))
    if not table.runs:
        left_out = "".join(f"{problem}; " for problem in table.problems)
        raise UserError(f"{left_out}no finished run of this table in {results / 'runs'}: {grid.command}")
    kept = Path(grid.config.cache_dir).expanduser() / "resampled"
    claims = check_claims(table, PairedBootstrap(resampler_of, kept))
    return table, claims, write_table(table, claims, results / grid.config.scale.name)


def tables() -> list[str]:
    """The names of all tables: configurations with a ``table`` section."""
    files = sorted((CONFIGS / "table").glob("*.yaml"))
    return [file.stem for file in files if "table" in OmegaConf.load(file)]


def write_table(table: Table, claims: Sequence[Claim], folder: Path) -> list[Path]:
    """Write ``table<N>.md``, ``.csv`` and ``.tex`` into a folder and return their paths."""
    stem = f"table{table.spec.number}"
    texts = {"md": markdown(table, claims), "csv": csv(table), "tex": latex(table)}
    paths = {suffix: folder / f"{stem}.{suffix}" for suffix in texts}
    for suffix, text in texts.items():
        write_text(paths[suffix], text)
    return list(paths.values())


def markdown(table: Table, claims: Sequence[Claim]) -> str:
    """The whole page: the warning, the table, how to read it, where it comes from, the claims."""
    heads = layout.headers(table)
    lines = [f"# {layout.title(table)}", ""]
    if warning := layout.warning(table):
        lines += [f"> **{escape_markdown(warning)}**", ""]
    numeric = len(heads) - len(table.spec.columns)
    lines += [markdown_row(heads), markdown_row([":--"] * numeric + ["--:"] * len(table.spec.columns))]
    lines += [markdown_row([markdown_entry(entry) for entry in line]) for line in layout.entries(table)]
    lines += ["", *(f"- {note}" for note in layout.notes(table))]
    lines += ["", "**From** " + " · ".join(escape_markdown(fact) for fact in layout.facts(table))]
    if claims:
        lines += ["", "## Claims", "", CLAIM_NOTE]
    for claim in claims:
        lines += ["", *markdown_claim(table, claim)]
    return "\n".join(lines) + "\n"


def markdown_claim(table: Table, claim: Claim) -> list[str]:
    """A sentence of the paper, how it fared, and its comparisons, folded away where they are many."""
    heading = f"**{claim.says}.** {claim_summary(claim)}."
    lines = [markdown_row(CLAIM_HEADS), markdown_row([":--", "--:", "--:", "--:", ":--"])]
    for comparison in claim.comparisons:
        texts = layout.comparison_texts(table, comparison)
        lines.append(markdown_row([escape_markdown(text) for text in texts]))
    if len(lines) <= LONG:
        return [heading, "", *lines]
    return [heading, "", "<details><summary>Comparisons</summary>", "", *lines, "", "</details>"]


def claim_summary(claim: Claim) -> str:
    """``5 comparisons: 3 reproduced, 2 within noise``."""
    counted = [f"{count} {verdict}" for verdict in get_args(Verdict) if (count := claim.count(verdict))]
    total = len(claim.comparisons)
    return f"{total} {'comparison' if total == 1 else 'comparisons'}: {', '.join(counted)}"


def markdown_row(cells: Sequence[str]) -> str:
    """One line of a markdown table."""
    return f"| {' | '.join(cells)} |"


def markdown_entry(entry: Entry) -> str:
    """Ours, and below it, small, the paper's."""
    ours, paper = escape_markdown(entry.ours).replace(" ± ", "\u00a0±\u00a0"), escape_markdown(entry.paper)
    ours = f"**{ours}**" if entry.best else f"*{ours}*" if ours == layout.NOT_RUN else ours
    paper = f"**{paper}**" if entry.paper_best else paper
    return f"{ours}<br><sub>{paper}</sub>" if paper else ours


def escape_markdown(text: str) -> str:
    """Text that markdown would read as markup: ``W_q``, ``a|b``, ``*``."""
    for character in "\\|*_<>`":
        text = text.replace(character, f"\\{character}")
    return text


def csv(table: Table) -> str:
    """One row per row of the table, numbers in full; empty where there is none, and why in ``status``."""
    records: list[dict[str, Any]] = []
    for row in table.rows:
        record: dict[str, Any] = {"row": row.name}
        if "method" in table.spec.rows:
            record["label"] = row.label
        for head, (ours, paper) in row.settings.items():
            record |= {head: ours, f"{head} (paper)": paper}
        if table.spec.parameters:
            for name in COUNTS:
                counts = row.counts(name)
                record |= {name: "-".join(map(str, counts)), f"{name} (paper)": row.printed[name]}
        for column in table.spec.columns:
            score = row.scores[column]
            record |= {
                column: "" if score is None else repr(score.mean),
                f"{column} sd": "" if score is None or score.sd is None else repr(score.sd),
                f"{column} seeds": 0 if score is None else score.seeds,
                f"{column} (paper)": row.printed[column],
            }
        whole = all(score is not None for score in row.scores.values())
        record["status"] = "quoted" if row.quoted else "run" if whole else layout.NOT_RUN
        keys = {run.key: None for by_seed in row.runs.values() for run in by_seed.values()}
        records.append(record | {"runs": " ".join(keys)})
    return pd.DataFrame(records).to_csv(index=False, lineterminator="\n")


def latex(table: Table) -> str:
    """A ``table*`` of booktabs rules: each row ours, and below it, small, the paper's."""
    heads = layout.headers(table)
    numeric = len(heads) - len(table.spec.columns)
    body = []
    for line in layout.entries(table):
        body.append(" & ".join(latex_ours(entry) for entry in line) + r" \\")
        if any(entry.paper for entry in line):
            paper = [latex_paper(entry) for entry in line]
            body.append(" & ".join(paper) + r" \\[2pt]")
    caption = [f"{layout.title(table)}.", layout.warning(table), *layout.notes(table)]
    caption += [f"{fact}." for fact in layout.facts(table)]
    return "\n".join(
        [
            "% Needs \\usepackage[utf8]{inputenc} and \\usepackage{booktabs}.",
            r"\begin{table*}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            f"\\begin{{tabular}}{{{'l' * numeric}{'r' * (len(heads) - numeric)}}}",
            r"\toprule",
            " & ".join(escape_latex(head) for head in heads) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            f"\\caption{{{escape_latex(' '.join(part for part in caption if part))}}}",
            f"\\label{{tab:delta-lora-{table.spec.number}}}",
            r"\end{table*}",
            "",
        ]
    )


def latex_ours(entry: Entry) -> str:
    """The upper line of a cell."""
    text = escape_latex(entry.ours)
    return f"\\textbf{{{text}}}" if entry.best else f"\\emph{{{text}}}" if text == layout.NOT_RUN else text


def latex_paper(entry: Entry) -> str:
    """The lower line of a cell."""
    text = escape_latex(entry.paper)
    shown = f"\\textbf{{{text}}}" if entry.paper_best else text
    return f"{{\\scriptsize {shown}}}" if text else ""


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters, and the few others that the tables use, as commands."""
    return "".join(LATEX.get(character, character) for character in text)


LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "λ": r"$\lambda$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "–": "--",
    "§": r"\S{}",
    "²": "$^2$",
    "⁰": "$^0$",
    "⁶": "$^6$",
}


def terminal(table: Table, claims: Sequence[Claim]) -> RenderableType:
    """For ``rich.print``: the table, the warning, and how the claims fared."""
    grid = RichTable(title=layout.title(table), caption=layout.warning(table), show_lines=False)
    numeric = len(layout.headers(table)) - len(table.spec.columns)
    for place, head in enumerate(layout.headers(table)):
        grid.add_column(head, justify="left" if place < numeric else "right")
    for line in layout.entries(table):
        grid.add_row(*(terminal_entry(entry) for entry in line))
    legend = Text("Upper line: ours; lower line: the paper's.", style="dim")
    found = [Text(f"{claim.says}. {claim_summary(claim)}.") for claim in claims]
    return Group(grid, legend, *found)


def terminal_entry(entry: Entry) -> Text:
    """Ours, and below it, dim, the paper's."""
    text = Text(entry.ours, style="bold" if entry.best else "")
    return text.append(f"\n{entry.paper}", style="not bold dim") if entry.paper else text
