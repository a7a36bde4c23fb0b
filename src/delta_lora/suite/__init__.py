"""The suite: one cell of a table from configuration to record, and tables from records."""
