"""Files of lines: the one place where bytes are read that are to become text, and where it is said if they are none.

A line ends with LF or CR LF; a byte order mark of UTF-8 at the head is not text; what gzip has packed is unpacked.
Everything else that is not UTF-8 text is named as what it is before a line of it is used.
"""

import codecs
import contextlib
import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from fastattn._strings import path_name
from fastattn.errors import TextError, describe_file

__all__ = ["LONGEST", "decode", "lines", "name_of", "not_text", "read_bytes", "read_whole"]

Place = str | os.PathLike[str]

LONGEST = 1 << 20  # bytes of a line: more is no sentence, and would be held in memory whole

_HEAD = 8192  # bytes by which a file is recognized
_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"

# Beginnings of files that are not text, and what unpacks them, if anything does.
_MAGIC = (
    (b"\xfd7zXZ\x00", "compressed by xz", "xz -dc"),
    (b"BZh", "compressed by bzip2", "bzip2 -dc"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "zstd -dc"),
    (b"\x04\x22\x4d\x18", "compressed by lz4", "lz4 -dc"),
    (b"\x1f\x9d", "compressed by compress", "gzip -dc"),
    (b"PK\x03\x04", "a zip archive", "unzip -p"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x -so"),
    (b"%PDF-", "a PDF document", "pdftotext"),
    (b"PAR1", "a Parquet file", ""),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", ""),
    (b"\x93NUMPY", "a NumPy file", ""),
    (b"\x89PNG\r\n\x1a\n", "a picture", ""),
    (b"SQLite format 3\x00", "an SQLite database", ""),
    (b"\x7fELF", "a program", ""),
)

_WIDE_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def lines(place: Place) -> Iterator[bytes]:
    """Yield the lines of a file, or of the standard input for "-", without their ends.

    Of a line longer than `LONGEST` bytes no more than its beginning is kept, which is longer than that, too.

    Raises
    ------
    TextError
        In one line, if the file cannot be read, or is not text.
    """
    with _opened(place) as (file, name):
        yield from _lines_of(file, name)


def read_bytes(place: Place, most: int) -> bytes:
    """Return what is in a file of at most `most` bytes, text or not; unpacked if gzip has packed it.

    Raises
    ------
    TextError
        In one line, if it cannot be read, or is longer.
    """
    with _opened(place) as (file, name):
        content = (_unpacked(file) if _head(file).startswith(_GZIP) else file).read(most + 1)
    if len(content) > most:
        raise TextError(describe_file(name, f"longer than {most} bytes", "name the file that is meant."))
    return content


@contextlib.contextmanager
def _opened(place: Place) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file, or the standard input for "-"; what goes wrong while it is read is said in one line."""
    name = name_of(place)
    try:
        if name == "-":
            if sys.stdin is None:
                raise TextError(describe_file("standard input", "is closed", "give it something to read."))
            yield sys.stdin.buffer, "standard input"
            return
        with open(place, "rb") as file:
            yield file, name
    except EOFError:
        raise TextError(describe_file(name, "its gzip data end too early", "copy the file once more.")) from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise TextError(describe_file(name, f"its gzip data are damaged ({error})", "pack it anew.")) from None
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        hint = "name a text file that can be read, or - for the standard input."
        raise TextError(describe_file(name, problem, hint)) from None


def decode(line: bytes) -> tuple[str, str]:
    """Return the text of a line, and what is wrong with it, "" if nothing is."""
    if len(line) > LONGEST:
        return "", f"is longer than {LONGEST} bytes"
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return "", "is not UTF-8"
    return (text, "") if "\0" not in text else ("", "has a NUL character")


def read_whole(place: Place, most: int) -> str:
    """Return a text file of at most `most` bytes as one str.

    Raises
    ------
    OSError
        If it cannot be read.
    TextError
        In one line, if it is longer, or is not text.
    """
    with open(place, "rb") as file:
        content = file.read(most + 1)
    if (found := not_text(content[:_HEAD])) is not None:
        raise TextError(describe_file(place, *found))
    if len(content) > most:
        raise TextError(describe_file(place, f"longer than {most} bytes", "name the file that is meant."))
    try:
        return content.removeprefix(_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TextError(describe_file(place, f"no UTF-8 at byte {error.start}", "save the file as UTF-8.")) from None


def not_text(head: bytes) -> tuple[str, str] | None:
    """Return what the beginning of a file shows it to be, and what to do, or None if it may be UTF-8 text."""
    if head.startswith(_GZIP):
        return "is compressed by gzip", "unpack it first (gzip -dc)."
    for magic, what, tool in _MAGIC:
        if head.startswith(magic) and (magic != b"BZh" or head[4:10] == b"1AY&SY"):
            return f"is {what}, not text", f"unpack it first ({tool})." if tool else "write its texts to a text file."
    if (encoding := _wide(head)) is not None:
        return f"is {encoding} text", f"convert it to UTF-8 (iconv -f {encoding} -t UTF-8)."
    if (place := head.find(b"\0")) >= 0:
        return f"is binary: byte {place + 1} is NUL", "name a file of UTF-8 text."
    if head.count(b"\r") > head.count(b"\r\n") and b"\n" not in head:
        return "has lines that end with CR alone", "end them with LF (tr '\\r' '\\n')."
    return None


def name_of(place: Place) -> str:
    """Return the path as a str."""
    return path_name("path", place)


def _lines_of(file: BinaryIO, name: str) -> Iterator[bytes]:
    head = _head(file)
    if head.startswith(_GZIP):
        file = _unpacked(file)
        head = _head(file)
    if (found := not_text(head)) is not None:
        raise TextError(describe_file(name, *found))
    most = LONGEST + len(_MARK) + 3  # with the mark and the end, so that what is longer is still seen to be so
    first = True
    while line := file.readline(most):
        rest = line
        while len(rest) == most and not rest.endswith(b"\n"):
            rest = file.readline(most)
        yield (line.removeprefix(_MARK) if first else line).removesuffix(b"\n").removesuffix(b"\r")
        first = False


def _unpacked(file: BinaryIO) -> BinaryIO:
    return io.BufferedReader(gzip.GzipFile(fileobj=file))


def _head(file: BinaryIO) -> bytes:
    """Return the first bytes of a file, which stay there to be read; of a pipe those that have come."""
    if isinstance(file, io.BufferedReader):
        return file.peek(_HEAD)[:_HEAD]
    head = file.read(_HEAD)  # a stand-in for the standard input
    file.seek(-len(head), io.SEEK_CUR)
    return head


def _wide(head: bytes) -> str | None:
    """Return the encoding of a text whose characters take two or four bytes, or None.

    Without a byte order mark it is one in which all is printable, and what is a space or an end of a line, too.
    """
    for mark, name in _WIDE_MARKS:
        if head.startswith(mark):
            return name
    for name in ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE") if b"\0" in head else ():
        try:
            text = codecs.getincrementaldecoder(name)().decode(head)
        except UnicodeDecodeError:
            continue
        if (spaces := text.count(" ") + sum(map(text.count, "\t\r\n"))) or text.isascii():
            if spaces + sum(map(str.isprintable, text.replace(" ", ""))) == len(text) > 0:
                return name
    return None
