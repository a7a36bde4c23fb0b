"""A table as LaTeX."""

from delta_lora.suite.pages.view import Entry, TableView
from delta_lora.suite.pages.words import NOT_RUN


def latex(view: TableView) -> str:
    """A ``table*`` of booktabs rules: each row ours, and below it, small, the paper's, and both gains."""
    body = []
    for line in view.lines:
        body.append(" & ".join(latex_ours(entry) for entry in line) + r" \\")
        if any(entry.paper for entry in line):
            paper = [latex_paper(entry) for entry in line]
            body.append(" & ".join(paper) + r" \\[2pt]")
        if any(entry.gains for entry in line):
            gains = [f"{{\\scriptsize {escape_latex(entry.gains)}}}" if entry.gains else "" for entry in line]
            body.append(" & ".join(gains) + r" \\[2pt]")
    caption = [f"{view.title}.", view.warning, *view.notes, *(f"{fact}." for fact in view.facts)]
    label = view.name.removeprefix("table") if view.of_paper else view.name
    return "\n".join(
        [
            "% Needs \\usepackage[utf8]{inputenc} and \\usepackage{booktabs}.",
            r"\begin{table*}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            f"\\begin{{tabular}}{{{''.join('r' if column.score else 'l' for column in view.columns)}}}",
            r"\toprule",
            " & ".join(escape_latex(column.head) for column in view.columns) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            f"\\caption{{{escape_latex(' '.join(part for part in caption if part))}}}",
            f"\\label{{tab:delta-lora-{label}}}",
            r"\end{table*}",
            "",
        ]
    )


def latex_ours(entry: Entry) -> str:
    """The upper line of a cell."""
    text = escape_latex(entry.text)
    return f"\\textbf{{{text}}}" if entry.best else f"\\emph{{{text}}}" if text == NOT_RUN else text


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
