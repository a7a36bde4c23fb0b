"""The suite: one cell of a table from configuration to record, and tables from records."""

import logging

# Where bitsandbytes is installed, PEFT imports it, and it gives advice that is not about the run at hand.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
