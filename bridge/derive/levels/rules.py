"""The sentences of the algorithm, by name, so that a test can take one out.

The one thing to know: planning always goes by all of them. A test that takes one out
must then see documents lost; that is how it is known that each of them is needed.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TypeAlias


class Rule(Enum):
    """One sentence."""

    COPIES = auto()
    """Each reference to a CTE or view is a copy of its own."""
    BARRIERS = auto()
    """A condition above a group, window or limit counts only by what that means."""
    FILTERS = auto()
    """A condition leads on from x only if it filters x."""
    STRICT = auto()
    """It leads to y only if y is there, or the condition fails for its nulls."""
    ALIKE = auto()
    """Key columns move only along equalities of inner joins, of one type."""
    NULL_GROUP = auto()
    """Where the key's table can be null, every change gives the null key."""
    ONE_TREE = auto()
    """Each occurrence has one next occurrence."""
    KEY_BARRIERS = auto()
    """Key columns come out of a group, window or limit only if it is by them."""
    POSITIVE = auto()
    """`exists` and `in` filter the rows around them only where they are AND-ed."""
    BRANCHES = auto()
    """What leads into one side of a union speaks for the rows of that side."""
    TEXTS = auto()
    """A condition that tells equal values apart, such as citext `A` and `a`, means
    nothing beneath what takes them for one."""
    ALWAYS = auto()
    """An aggregate without `group by` gives a row even of none."""


Rules: TypeAlias = frozenset[Rule]
ALL: Rules = frozenset(Rule)
