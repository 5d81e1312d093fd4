"""Bytes from outside end in the declared errors: the kept corpus, and mutations of it.

`make fuzz` looks for more, guided by coverage; what it finds is added to the corpus.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest

from tests.fuzz.targets import CORPUS, TARGETS, kept

MUTATIONS = int(os.environ.get("PGBRIDGE_TEST_FUZZ", "1500"))
_MARKS = (b'"', b"'", b"[", b"(", b"{", b"\n", b"$", b"--", b"::", b",", b"=")


def mutated(dice: random.Random, examples: Sequence[bytes]) -> bytes:
    """An example with a few changes: bits, bytes, pieces cut, doubled or of others."""
    content = bytearray(dice.choice(examples))
    for _ in range(dice.choice((1, 1, 2, 5))):
        at = dice.randint(0, len(content))
        end = min(len(content), at + dice.choice((1, 2, 4, 20)))
        match dice.randint(0, 6):
            case 0 if at < len(content):
                content[at] ^= 1 << dice.randint(0, 7)
            case 1:
                content[at:end] = b""
            case 2:
                content[at:at] = content[at:end] * dice.choice((1, 2, 500))
            case 3:
                other = dice.choice(examples)
                start = dice.randint(0, len(other))
                content[at:end] = other[start : start + dice.choice((1, 4, 30))]
            case 4:
                content[at:end] = dice.choice((b"\0", b"\xff" * 4, b"\x80", b""))
            case 5:
                content[at:end] = dice.choice(_MARKS)
            case _:
                del content[at:]
    return bytes(content)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_kept_ends_in_declared_errors(target: str) -> None:
    examples = kept(target)
    assert len(examples) > 3
    for content in examples.values():
        TARGETS[target](content)


@pytest.mark.parametrize("target", TARGETS)
def test_mutations_end_in_declared_errors(target: str, seed: int) -> None:
    dice = random.Random(f"{target}/{seed}")
    examples = list(kept(target).values())
    for _ in range(MUTATIONS):
        content = mutated(dice, examples)
        try:
            TARGETS[target](content)
        except Exception as error:
            (CORPUS / target / f"found-{abs(hash(content)):x}").write_bytes(content)
            raise AssertionError(f"{content[:2000]!r}") from error
