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
_READS = {
    "COERCEVIAIO": "resulttype",
    "JSONRETURNING": "typid",
    "RANGETBLFUNCTION": "funccoltypes",
    "TABLEFUNC": "coltypes",
}
"""Where a value is made out of a text, by the input function of its type."""
_SHOWN = {"VAR": "vartype", "RELABELTYPE": "resulttype", "CONST": "consttype"}
_NOT_SHOWN = frozenset(
    "RANGETBLENTRY RELABELTYPE OPEXPR SCALARARRAYOPEXPR DISTINCTEXPR NULLTEST "
    "ROWCOMPAREEXPR FIELDSELECT".split()
)
"""In a comparison or under another type only the value counts, not its text."""


@dataclass(slots=True)
class Node:
    """One `{NAME :field words…}`: of each field the words that are not nodes."""

    name: str
    fields: dict[str, list[str]] = field(default_factory=dict)
    filled: set[str] = field(default_factory=set)
    """Fields in which nodes stand."""
    within: str = ""
    """The name of the node that it stands in."""

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
            current, at = Node(token["open"], within=current.name), ""
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
    read: set[int] = set()
    shown: set[int] = set()
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
        if name in _READS:
            words = node.fields.get(_READS[name], ())
            read.update(int(word) for word in words if word.isdigit())
        if _is_shown(node):
            shown.add(node.number(_SHOWN[name]))
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
        frozenset(read - {0}),
        frozenset(shown - {0}),
    )


def _is_shown(node: Node) -> bool:
    """A constant is only where a text is made of it: `'english'` names a dictionary."""
    if node.name not in _SHOWN or node.within in _NOT_SHOWN:
        return False
    return node.name != "CONST" or node.within == "COERCEVIAIO"
