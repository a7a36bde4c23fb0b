"""What training costs: every method against PEFT's LoRA, measured in turn (``scripts/bench.py``)."""
