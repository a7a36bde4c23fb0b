"""Numbers as pages: Markdown, LaTeX, plots, notebooks, the report."""
