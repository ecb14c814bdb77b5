"""``fusec`` and ``python -m fusec``: look at the machine, the cache and compiled functions."""

import sys
from collections.abc import Sequence

from fusec.cli import CliError, run


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 fine, 1 a check failed, 2 a bad request."""
    try:
        status, lines = run(words)
        for line in lines:
            print(line)
        return status()
    except CliError as error:
        print(f"fusec: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
