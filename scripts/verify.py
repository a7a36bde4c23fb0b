"""Score the kept predictions of a scale anew, and hold its records and tables against that; nothing is trained.

python scripts/verify.py scale=laptop                # all of it, with the intervals of the claims
python scripts/verify.py scale=laptop sample=3       # three records, and the cells of every table

Looks at <results_dir>/<scale>. Prints a line for each number, record or page that is not what it should be, and ends
with 1 then.
"""

import sys

from delta_lora.errors import UserError
from delta_lora.suite.cli import words_main


def main(arguments: list[str]) -> None:
    """Print what is wrong, and what was looked at."""
    from delta_lora.suite.pages.verify import verify  # imported late: --help answers at once

    given = [word.removeprefix("sample=") for word in arguments if word.startswith("sample=")]
    if given and not (given[-1].isdecimal() and int(given[-1])):
        raise UserError(f"sample={given[-1]} is no number of records from 1 on; give one, or leave it out for all")
    found = verify([word for word in arguments if not word.startswith("sample=")], int(given[-1]) if given else None)
    for line in found.wrong:
        print(f"wrong: {line}", file=sys.stderr)
    pages = ", ".join(found.pages) or "no table"
    print(f"{found.records} kept records, {found.scored} of them scored anew; {pages}: {len(found.wrong)} wrong")
    if found.wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(words_main(__doc__, "OVERRIDE", main))
