"""What training, scoring and decoding cost, each in turn with what it is compared with (``scripts/bench.py``)."""
