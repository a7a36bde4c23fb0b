"""One cell: load, prepare, train, decode, score, record."""
