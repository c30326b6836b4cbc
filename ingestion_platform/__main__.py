"""
The platform's own commands: `python -m ingestion_platform …`. What runs every night is Dagster's; these are for a person at the keyboard.

Belongs here: which commands there are, and how one ends that fails. Doesn't: what they do (`commands/`).
"""

import argparse
import os
import sys
from collections.abc import Sequence

from ingestion_platform.commands import (
    alerts,
    extracts,
    forget,
    keeping,
    places,
    planning,
    quarantine,
    replay,
    running,
    senders,
    tables,
)
from ingestion_platform.commands.arguments import require_order
from ingestion_platform.errors import IngestionError

COMMANDS = (keeping, tables, quarantine, senders, replay, planning, extracts, running, alerts, places, forget)
"""In the order in which they are listed. Each adds its own (`add_to`), and says what runs it."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ingestion_platform", description=(__doc__ or "").strip().splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the answer is the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        require_order(getattr(chosen, "first", None), getattr(chosen, "last", None))
        code: int = chosen.run(chosen)
        sys.stdout.flush()
        return code
    except IngestionError as error:
        print(f"{type(error).__name__}: {error.what}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read us has enough. What Python still wants to write when it ends must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
