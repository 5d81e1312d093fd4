"""Postgres types as Elasticsearch fields: one table.

The one thing to know: a document's `_source` is what Postgres printed, whatever the
field's type; the type only decides what can be searched, sorted and aggregated. So a
value that the index cannot hold is left out of the index (`ignore_malformed`,
`ignore_above`), and stays in the document.
"""

from __future__ import annotations

from typing import Any

from bridge.sink import Kind, TypeShape

KEYWORD_CHARACTERS_MAX = 8191
"""Lucene refuses a term beyond 32,766 bytes; a character has at most 4."""
TEXT_KEYWORD_CHARACTERS_MAX = 256
"""As Elasticsearch maps texts by itself: sorting by longer ones serves nobody."""
LONG_DIGITS = 18

KEYWORD = {"type": "keyword", "ignore_above": KEYWORD_CHARACTERS_MAX}
TEXT = {
    "type": "text",
    "fields": {
        "keyword": {"type": "keyword", "ignore_above": TEXT_KEYWORD_CHARACTERS_MAX}
    },
}
STORED = {"type": "keyword", "index": False, "doc_values": False}
"""Kept in the document, found by nothing."""
OPAQUE = {"type": "object", "enabled": False}
"""Any JSON, kept in the document, found by nothing."""
DATE = {"type": "date", "ignore_malformed": True}
"""Years 0 to 9999, in milliseconds; `infinity`, BC and later years are left out."""

_SCALARS: dict[str, dict[str, Any]] = {
    "bool": {"type": "boolean"},
    "int2": {"type": "short"},
    "int4": {"type": "integer"},
    "int8": {"type": "long"},
    "oid": {"type": "long"},
    # NaN and the infinities are strings in JSON
    "float4": {"type": "float", "ignore_malformed": True},
    "float8": {"type": "double", "ignore_malformed": True},
    "text": TEXT,
    "citext": TEXT,
    "unknown": TEXT,
    "xml": {"type": "text"},
    "date": DATE,
    "timestamp": DATE,
    "timestamptz": DATE,
    # an address without a mask is searched as one, any by its text
    "inet": {
        "type": "ip",
        "ignore_malformed": True,
        "fields": {"keyword": KEYWORD},
    },
    "bytea": STORED,
    "tsvector": STORED,
    "tsquery": STORED,
    "hstore": {"type": "flattened", "ignore_above": KEYWORD_CHARACTERS_MAX},
}

_KEYWORDS = frozenset(
    """
    varchar bpchar char name uuid time timetz interval money bit varbit cidr macaddr
    macaddr8 point line lseg box path polygon circle pg_lsn xid xid8 cid tid
    txid_snapshot pg_snapshot refcursor regclass regcollation regconfig regdictionary
    regnamespace regoper regoperator regproc regprocedure regrole regtype jsonpath
    aclitem ltree lquery ltxtquery semver isbn isbn13 issn ean13 upc seg cube earth
    """.split()
)
"""Types whose JSON is always a string that is searched as a whole."""


def field_of(shape: TypeShape) -> dict[str, Any]:
    """The field for a type: a new dictionary. An array's is that of its elements."""
    match shape.kind:
        case Kind.ARRAY:
            # Elasticsearch has no arrays: any field takes several values, nested ones
            # and nulls too.
            return field_of(shape.element) if shape.element else dict(OPAQUE)
        case Kind.OBJECT:
            members = {name: field_of(member) for name, member in shape.members}
            return (
                {"type": "object", "properties": members} if members else dict(OPAQUE)
            )
        case Kind.RANGE | Kind.MULTIRANGE | Kind.ENUM:
            return dict(KEYWORD)
        case Kind.JSON:
            return dict(OPAQUE)
        case Kind.SCALAR:
            return _scalar(shape)


def _scalar(shape: TypeShape) -> dict[str, Any]:
    if shape.name == "numeric":
        return _numeric(shape.modifier)
    if shape.name in _KEYWORDS:
        return dict(KEYWORD)
    # Of a type that is not known here (an extension's) it is not known either whether
    # its JSON is a string or an object: this takes both.
    return dict(_SCALARS.get(shape.name, OPAQUE))


def _numeric(modifier: int) -> dict[str, Any]:
    """`numeric(p, s)`: whole numbers of up to 18 digits exactly, others as doubles."""
    if modifier >= 4:
        precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
        if scale == 0 and precision <= LONG_DIGITS:
            return {"type": "long", "ignore_malformed": True}
    return {"type": "double", "ignore_malformed": True}
