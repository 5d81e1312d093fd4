"""Reading which objects a stored query refers to, from Postgres' own parse of it.

`pg_rewrite.ev_action` holds a view's analysed query as text such as

    ({QUERY :commandType 1 … {FUNCEXPR :funcid 870 … :args ({VAR :varno 1 …})} …})

The one thing to know: here functions and operators are oids, casts that nobody wrote
are there, and nothing has to be guessed from names and argument types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from bridge.catalog.model import Aggregate, Uses

_TOKEN = re.compile(
    r"\{(?P<open>\w+)|(?P<close>\})|(?P<paren>[()])"
    r'|:(?P<field>\w+)|(?P<word>"(?:\\.|[^"\\])*"|(?:\\.|[^\s(){}\\])+)'
)
_FUNCTIONS = {
    "FUNCEXPR": "funcid",
    "WINDOWFUNC": "winfnoid",
    "AGGREF": "aggfnoid",
}
_OPERATORS = {
    "OPEXPR": ("opno",),
    "DISTINCTEXPR": ("opno",),
    "NULLIFEXPR": ("opno",),
    "SCALARARRAYOPEXPR": ("opno",),
    "SORTGROUPCLAUSE": ("eqop", "sortop"),
    "ROWCOMPAREEXPR": ("opnos",),
}
_TYPES = {
    "COERCEVIAIO": "resulttype",
    "ARRAYCOERCEEXPR": "resulttype",
    "RELABELTYPE": "resulttype",
    "COERCETODOMAIN": "resulttype",
    "CONVERTROWTYPEEXPR": "resulttype",
    "CONST": "consttype",
    "FUNCEXPR": "funcresulttype",
}


@dataclass(slots=True)
class Node:
    """One `{NAME :field words…}`: of each field the words that are not nodes."""

    name: str
    fields: dict[str, list[str]] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)
    """Fields in which nodes stand."""

    def number(self, name: str) -> int:
        """A field that holds one number; 0 when it is missing."""
        words = self.fields.get(name) or ["0"]
        return int(words[0]) if words[0].isdigit() else 0

    def has(self, name: str) -> bool:
        """Whether a list field is not empty."""
        return name in self.filled


def nodes(text: str) -> Iterator[Node]:
    """Every node of a tree, inner ones before those that hold them."""
    stack: list[tuple[Node, str]] = []
    current, at = Node(""), ""
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "open":
            if current.name:
                current.filled.add(at)
            stack.append((current, at))
            current, at = Node(token["open"]), ""
        elif kind == "close":
            yield current
            current, at = stack.pop()
        elif kind == "field":
            at = token["field"]
            current.fields[at] = []
        elif kind == "word" and at:
            current.fields[at].append(token["word"])


def uses(text: str) -> Uses:
    """What the query in this tree refers to."""
    relations: set[int] = set()
    functions: set[int] = set()
    operators: set[int] = set()
    types: set[int] = set()
    windows: set[int] = set()
    aggregates: list[Aggregate] = []
    value_functions: set[str] = set()
    sampled = sequences = False
    for node in nodes(text):
        name = node.name
        if name == "RANGETBLENTRY":
            # Up to 15 a view's rule also lists the view itself, as `old` and `new`.
            if node.fields.get("inFromCl") != ["false"]:
                relations.add(node.number("relid"))
            sampled = sampled or node.has("tablesample")
        elif name == "SQLVALUEFUNCTION":
            value_functions.add((node.fields.get("op") or ["?"])[0])
        elif name == "NEXTVALUEEXPR":
            sequences = True
        if name in _FUNCTIONS:
            functions.add(node.number(_FUNCTIONS[name]))
        if name == "AGGREF":
            aggregates.append(
                Aggregate(
                    node.number("aggfnoid"),
                    node.has("aggorder"),
                    node.has("aggdistinct"),
                )
            )
        elif name == "WINDOWFUNC":
            windows.add(node.number("winfnoid"))
        for place in _OPERATORS.get(name, ()):
            operators.update(int(w) for w in node.fields.get(place, ()) if w.isdigit())
        if name in _TYPES:
            types.add(node.number(_TYPES[name]))
    return Uses(
        frozenset(relations - {0}),
        frozenset(functions - {0}),
        frozenset(operators - {0}),
        frozenset(types - {0}),
        tuple(aggregates),
        frozenset(windows),
        frozenset(value_functions),
        sampled,
        sequences,
    )
