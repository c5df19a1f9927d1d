"""How a verb ends: what went wrong goes to stderr, and becomes an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType

from typer import echo

from secateur.errors import SecateurError

COULD_NOT_RUN = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells say it
NOBODY_READS = 141  # 128 + SIGPIPE


class Ending:
    """Around a verb: no exception passes it save `SystemExit`.

    A `SecateurError` is the user's to mend and is told in its own words. Any other comes from the
    user's own code or from a fault in ours, and where it came from must be seen.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, SystemExit):
            return
        if isinstance(error, BrokenPipeError):
            # python flushes stdout once more at the very end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(NOBODY_READS)
        if isinstance(error, KeyboardInterrupt):
            echo("interrupted; the same command goes on from here", err=True)
            raise SystemExit(INTERRUPTED)
        if isinstance(error, SecateurError):
            echo(f"error: {error}", err=True)
        else:
            traceback.print_exception(error)
            echo("error: not one that secateur foresaw; it is told above", err=True)
        raise SystemExit(COULD_NOT_RUN)
