"""Losses that were seen and not yet repaired.

The one thing to know: that something is lost also stands in the server itself, under
a key that the function sets in the very call that hides the gap; a daemon that starts
and finds it there has everything derived again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bridge.sink import Generation, Loss


@dataclass(slots=True)
class Losses:
    """Told again and again until repaired."""

    _open: list[Loss] = field(default_factory=list)
    _all: str = ""
    """Why everything is lost, until it is known what generations there are."""

    def add(self, losses: Iterable[Loss]) -> None:
        """Remember these."""
        for loss in losses:
            if any(self._covers(known, loss) for known in self._open):
                continue
            if loss.keys is None:
                self._open = [
                    known for known in self._open if known.generation != loss.generation
                ]
            self._open.append(loss)

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
        """Whether nothing is lost."""
        return not self._open and not self._all

    @staticmethod
    def _covers(known: Loss, loss: Loss) -> bool:
        return known.generation == loss.generation and (
            known == loss or (known.keys is None and loss.keys is not None)
        )
