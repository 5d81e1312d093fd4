"""What is fuzzed: bytes from outside, and the only errors that they may end in.

    decoder          one pgoutput message
    stream           frames of pgoutput, each after its length in two bytes
    configuration    a file `pgbridge.toml`
    query            the text of a view's query

The one thing to know: a target returns, whatever it is given; an exception is a find.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bridge.config import load
from bridge.decode.pgoutput import MessageError, decode
from bridge.decode.transactions import DecodeLimits, TransactionAssembler
from bridge.derive.parse import parse_source
from bridge.errors import Halt, QueryRefusal, Refusal

CORPUS = Path(__file__).parent / "corpus"
ENVIRONMENT = {"PGPASSWORD": "hidden-7f3a", "EMPTY": ""}
_FILE = Path(tempfile.mkdtemp(prefix="pgbridge-fuzz-")) / "pgbridge.toml"


def decoder(content: bytes) -> None:
    """A message, or MessageError."""
    try:
        decode(content)
    except MessageError:
        return


def stream(content: bytes) -> None:
    """Whole transactions, or Halt; kept in memory and, beyond a little, on disk."""
    assembler = TransactionAssembler(limits=DecodeLimits(transaction_bytes_max=400))
    try:
        for transaction in assembler.feed(list(frames(content))):
            list(transaction.events)
    except Halt:
        return
    finally:
        assembler.close()


def configuration(content: bytes) -> None:
    """A Config, or Refusal."""
    _FILE.write_bytes(content)
    try:
        config = load(_FILE, environ=ENVIRONMENT)
    except Refusal as refusal:
        told = str(refusal)
    else:
        told = repr(config)
    assert ENVIRONMENT["PGPASSWORD"] not in told


def query(content: bytes) -> None:
    """The one `select` that it is, or QueryRefusal with a place in the text."""
    text = content.decode("utf-8", "replace")
    try:
        parse_source(text)
    except QueryRefusal as refusal:
        at = refusal.at or 0
    else:
        at = 0
    assert 0 <= at <= len(text)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "decoder": decoder,
    "stream": stream,
    "configuration": configuration,
    "query": query,
}


def frames(content: bytes) -> Iterator[bytes]:
    """What stands between the lengths."""
    at = 0
    while at + 2 <= len(content):
        size = int.from_bytes(content[at : at + 2])
        yield content[at + 2 : at + 2 + size]
        at += 2 + size


def kept(target: str) -> dict[str, bytes]:
    """The corpus of a target, by name: examples, and what was once found."""
    found = sorted((CORPUS / target).iterdir())
    return {path.name: path.read_bytes() for path in found}
