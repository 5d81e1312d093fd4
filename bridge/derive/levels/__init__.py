"""A query taken apart: levels, conditions, edges, and the ways to the key.

    query = read(statement, catalog)          levels, barriers, outer joins reduced
    edges(query, …)                           what leads from a row to another
    ways(key, edges, …)                       one tree of them

The one thing to know: nothing in here knows a shape of query. Joins, sub-selects,
`exists`, laterals and groups differ only in where a condition stands and what it
filters.
"""

from __future__ import annotations

from pglast import ast

from bridge.catalog import Catalog
from bridge.derive.levels.barriers import mark
from bridge.derive.levels.build import build
from bridge.derive.levels.edges import Edge, Link, edges, may_fail
from bridge.derive.levels.model import Level, Occurrence, Query
from bridge.derive.levels.nulls import Nulls, reduce_outer_joins
from bridge.derive.levels.rules import ALL, Rule, Rules
from bridge.derive.levels.tree import ways

__all__ = [
    "ALL",
    "Edge",
    "Level",
    "Link",
    "Nulls",
    "Occurrence",
    "Query",
    "Rule",
    "Rules",
    "edges",
    "may_fail",
    "read",
    "ways",
]


def read(statement: ast.SelectStmt, catalog: Catalog, rules: Rules = ALL) -> Query:
    """The levels of a query with all that is known of them. QueryRefusal."""
    query = build(statement, catalog, rules)
    mark(query, catalog, rules)
    reduce_outer_joins(query, Nulls(catalog))
    return query
