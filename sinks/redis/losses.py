"""Losses that were seen and not yet repaired.

The one thing to know: that something is lost also stands in the server itself, under
a key that the function sets in the very call that hides the gap; a daemon that starts
and finds it there has everything derived again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bridge.sink import Generation, Loss

LOST_BEFORE = "a loss that an earlier run saw was not repaired"


@dataclass(slots=True)
class Losses:
    """Told again and again until repaired."""

    _open: list[Loss] = field(default_factory=list)
    _all: str = ""
    """Why everything is lost, until it is known what generations there are."""
    _begun: bool = False

    def begin(self, *, noted: bool) -> bool:
        """The server's own note is an earlier run's when this process first sees it.

        False when this was the first time.
        """
        if self._begun:
            return True
        if noted:
            self.add_all(LOST_BEFORE)
        self._begun = True
        return False

    def add(self, losses: Iterable[Loss]) -> None:
        """Remember these. A loss of everything stands for all of its generation's."""
        for loss in losses:
            if loss.keys is None:
                self.dropped(loss.generation)
            if loss.keys is None or not self._whole(loss.generation):
                self._open.append(loss)

    def add_missing(self, generation: Generation, reason: str) -> None:
        """This generation is not there: told at each audit, remembered once."""
        if not self._whole(generation):
            self.add([Loss(generation, None, reason)])

    def add_all(self, reason: str) -> None:
        """All generations are lost, whichever there are."""
        self._all = reason

    def told(self, generations: Sequence[Generation]) -> list[Loss]:
        """What is lost of these generations."""
        if self._all and generations:
            self.add(Loss(generation, None, self._all) for generation in generations)
            self._all = ""
        return [loss for loss in self._open if loss.generation in generations]

    def repaired(self, loss: Loss) -> None:
        """This one is no more."""
        self._open = [known for known in self._open if known != loss]

    def dropped(self, generation: Generation) -> None:
        """Nothing of this generation is missed any more."""
        self._open = [known for known in self._open if known.generation != generation]

    @property
    def none(self) -> bool:
        """Whether nothing is lost, as far as the server was asked at all."""
        return self._begun and not self._open and not self._all

    def _whole(self, generation: Generation) -> bool:
        return any(
            loss.generation == generation and loss.keys is None for loss in self._open
        )
