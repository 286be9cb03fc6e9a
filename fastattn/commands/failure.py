"""Exit codes, and what a failure looks like: one line on stderr that says what to do."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import TextIO

from fastattn._printing import one_line, say
from fastattn.errors import ConfigError, FastattnError

__all__ = ["EXIT_CODES", "FAILED", "INTERRUPTED", "PIPE", "USAGE", "guarded"]

FAILED, USAGE, INTERRUPTED, PIPE = 1, 2, 130, 141

EXIT_CODES = """exit codes:
  0    done
  1    failed: missing or damaged file, full disk, text that cannot be read, ...
  2    the command line or the configuration is wrong
  130  interrupted by Ctrl-C; training keeps the last good checkpoint (143: by SIGTERM, 129: by SIGHUP)
  141  the reader of the output went away
"""

HINTS = {
    errno.ENOENT: "check the path",
    errno.EACCES: "check the permissions",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "check the path",
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EFBIG: "raise the limit of file sizes, or choose another disk",
    errno.EBADF: "send it to a file, or to /dev/null",
    errno.EROFS: "choose a folder that can be written",
}


def guarded(command: str, run: Callable[[], int]) -> int:
    """Run a command; turn every expected failure into one line on stderr and an exit code.

    Parameters
    ----------
    command : str
        Its name, for the line.
    run : callable
        Returns the exit code of success.

    Returns
    -------
    int
        See `EXIT_CODES`. Exceptions that nobody expects are not caught: they are faults of the program.
    """
    try:
        return _status(command, run)
    finally:
        for stream in (sys.stdout, sys.stderr):
            _settle(stream)


def _status(command: str, run: Callable[[], int]) -> int:
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "the standard output is closed")
        status = run()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        return PIPE
    except KeyboardInterrupt as interrupt:
        _complain(command, str(interrupt) or "interrupted")
        return 128 + getattr(interrupt, "number", INTERRUPTED - 128)
    except ConfigError as error:
        _complain(command, str(error))
        return USAGE
    except FastattnError as error:
        _complain(command, str(error))
    except MemoryError:
        _complain(command, "out of memory. Hint: use smaller batches or a smaller model.")
    except OSError as error:
        _complain(command, _operating_system(error))
    return FAILED


def _complain(command: str, text: str) -> None:
    say(one_line(f"fastattn {command}: {text}"))


def _operating_system(error: OSError) -> str:
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
    hint = HINTS.get(error.errno or 0, "")
    return f"{where}{error.strerror or error}" + (f". Hint: {hint}." if hint else "")


def _settle(stream: TextIO | None) -> None:
    """Keep the interpreter from failing once more, with an exit code of its own, when it flushes streams at its end."""
    if stream is None:
        return
    with contextlib.suppress(Exception):  # an object of the program's own may raise anything
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
