"""What rows and settings are called, on every page."""

from delta_lora.suite.tables.table import NOT_PRINTED, Row, Table, is_numeral

NOT_RUN = "not run"
NONE = "–"
HEADS = {"learning_rate": "Learning rate", "update_ratio": "λ", "start_steps": "K"}


def setting_head(head: str) -> str:
    """What a setting is called in a heading."""
    return HEADS.get(head, head.replace("_", " ").capitalize())


def row_title(table: Table, row: Row, of_paper: bool = False) -> str:
    """A row in words, with our settings or the paper's: ``LoRA (repr.), learning rate = 3e-3``, ``λ = 2``.

    A setting that is a name of its own (``LoRA, α 96``) stands without its heading.
    """
    settings = [
        f"{setting_head(head).replace('Learning', 'learning')} = {text}" if is_numeral(text) else text
        for head, (mine, printed) in row.settings.items()
        if (text := (printed or mine) if of_paper else (mine or printed)) != NOT_PRINTED
    ]
    words = [*([row.label] if "method" in table.spec.rows or not row.settings else []), *settings]
    return ", ".join(words) or row.name
