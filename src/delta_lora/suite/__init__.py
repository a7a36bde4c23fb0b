"""The suite: one cell of a table from configuration to record, and tables from records."""

from delta_lora.suite.machine.quiet import quiet_imports

quiet_imports()
