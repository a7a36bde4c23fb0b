"""A table as LaTeX."""

from delta_lora.suite.pages import layout
from delta_lora.suite.pages.layout import Entry
from delta_lora.suite.tables.build import Table


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
    caption = [f"{layout.title(table)}.", layout.warning(table.grid), *layout.notes(table)]
    caption += [f"{fact}." for fact in layout.facts(table.grid, table.runs)]
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
