"""Marks against what was answered: no loss goes unseen, whatever is still known."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from bridge.sink import Loss
from sinks.redis.journal import KEY_BYTES, Journal
from sinks.redis.losses import Losses
from tests.fixtures.redis_sinks import generation

ONE, TWO = generation(1), generation(2)


def journal(requests: int, mark: int = 0) -> Journal:
    made = Journal()
    made.begin(mark)
    for _ in range(requests):
        number = made.number()
        made.kept(number, ONE if number % 2 else TWO, [(f"k{number}",)])
    return made


def keys(losses: tuple[Loss, ...] | None) -> set[str | None]:
    assert losses is not None
    return {part for loss in losses for parts in loss.keys or () for part in parts}


def test_numbers_go_on_from_the_mark_found() -> None:
    made = journal(3, mark=40)
    assert made.mark == 43
    assert made.found(43) == made.found(50) == ()


@pytest.mark.parametrize("mark", range(40, 46))
def test_what_is_above_the_mark_is_lost_and_told_once(mark: int) -> None:
    made = journal(5, mark=40)
    losses = made.found(mark)
    assert keys(losses) == {f"k{number}" for number in range(mark + 1, 46)}
    for loss in losses or ():
        assert all(
            (int((parts[0] or "")[1:]) % 2 == 1) == (loss.generation == ONE)
            for parts in loss.keys or ()
        )
    assert made.found(mark) == ()
    assert made.number() == 46, "a number is never used again"


@pytest.mark.parametrize("mark", [None, 39, 0])
def test_a_mark_that_is_missing_or_from_before_means_everything(
    mark: int | None,
) -> None:
    assert journal(5, mark=40).found(mark) is None


def test_settled_keys_are_forgotten_and_their_loss_is_of_everything() -> None:
    made = journal(5)
    made.settled(3)
    assert made.unsettled == 2
    assert keys(made.found(3)) == {"k4", "k5"}
    made = journal(5)
    made.settled(3)
    assert made.found(2) is None


def test_memory_is_bounded() -> None:
    made = Journal(bytes_max=10 * (KEY_BYTES + 2))
    for _ in range(90):
        made.kept(made.number(), ONE, [("k1",)])
    assert made.unsettled == 10
    assert made.found(79) is None
    made.aged(-1.0)
    assert made.unsettled == 0


@dataclass
class ModelServer:
    """Falls back to an earlier moment at will; notes what `write.lua` notes."""

    log: list[tuple[int, str]] = field(default_factory=list)
    note: int | None = None

    @property
    def mark(self) -> int:
        return self.log[-1][0] if self.log else 0

    def write(self, number: int, key: str, expected: int) -> int:
        found = self.mark
        if found < expected:
            self.note = number
        self.log.append((number, key))
        return found


@pytest.mark.parametrize("number_of_history", range(40))
def test_every_answered_key_is_on_the_server_or_lost(number_of_history: int) -> None:
    """A server that falls back at random, against what it really holds."""
    dice = random.Random(number_of_history)
    made = Journal(bytes_max=dice.choice([1 << 20, 8 * (KEY_BYTES + 4)]))
    server = ModelServer()
    answered: set[str] = set()

    def reconciled(mark: int, number: int = 0) -> None:
        losses = made.found(mark, number)
        missing = answered - {key for _, key in server.log}
        if losses is None:
            answered.clear()  # everything is derived again
        else:
            assert missing <= keys(losses)
            answered.difference_update(missing)

    def reconnected() -> None:
        if server.note is not None and made.noted(server.note):
            made.found(server.mark)
            answered.clear()
        reconciled(server.mark)

    for step in range(300):
        match dice.randrange(8):
            case 0:
                del server.log[dice.randint(0, len(server.log)) :]
            case 1:
                reconnected()
            case 2 if server.log and server.mark >= made.mark:
                made.settled(dice.randint(0, server.mark))
            case _:
                number, key = made.number(), f"k{step}"
                mark = server.write(number, key, made.mark)
                if dice.random() < 0.8:
                    reconciled(mark, number)
                    made.kept(number, ONE, [(key,)])
                    answered.add(key)
                else:  # the answer is lost on the way, and with it the connection
                    reconnected()
    reconnected()


def test_losses_are_told_until_repaired() -> None:
    losses = Losses()
    losses.begin(noted=False)
    some = Loss(ONE, (("k",),), "a")
    losses.add([some])
    assert losses.told([ONE]) == [some]
    assert losses.told([TWO]) == []
    losses.add_all("b")
    whole = Loss(ONE, None, "b")
    assert losses.told([ONE, TWO]) == [whole, Loss(TWO, None, "b")]
    losses.add([some])
    losses.add_missing(ONE, "again")
    assert losses.told([ONE]) == [whole]
    later = Loss(ONE, None, "later")
    losses.add([later])
    losses.repaired(whole)
    assert losses.told([ONE]) == [later], "a newer loss is not repaired by the older"
    losses.repaired(later)
    losses.dropped(TWO)
    assert losses.none


def test_an_earlier_runs_note_counts_once() -> None:
    losses = Losses()
    assert not losses.none, "nobody has looked yet"
    losses.begin(noted=True)
    (loss,) = losses.told([ONE])
    losses.repaired(loss)
    losses.begin(noted=True)
    assert losses.told([ONE]) == []
