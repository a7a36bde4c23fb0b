"""From run records to the numbers of tables, claims and Figure 3."""
