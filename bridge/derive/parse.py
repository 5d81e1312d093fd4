"""Reading a query's text, and refusing what is not one read-only `select`.

The one thing to know: this looks at the query as the user wrote it, before any server
sees it, so that places in refusals are places in that text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pglast import ast, parse_sql
from pglast.parser import ParseError

from bridge.errors import QueryRefusal

_CHANGES = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)


def too_deep() -> QueryRefusal:
    """What is said of a query that Python's stack has no room for."""
    return QueryRefusal(
        "the query nests hundreds of parts in each other",
        hint="put some of it into a view of the database",
    )


def parse_source(query: str) -> ast.SelectStmt:
    """The one `select` that the query is. QueryRefusal with the place if it is not."""
    try:
        return _parse_source(query)
    except RecursionError:
        raise too_deep() from None


def _parse_source(query: str) -> ast.SelectStmt:
    try:
        statements = parse_sql(query)
    except ParseError as error:
        message, at = (*error.args, None)[:2]
        raise QueryRefusal(
            f"the query cannot be read: {message}",
            hint="it is one `select` of PostgreSQL",
            # Without a place it has met the end.
            at=at if isinstance(at, int) and 0 <= at <= len(query) else len(query),
        ) from error
    if not statements:
        raise QueryRefusal("the query is empty", hint="a view is one `select`", at=0)
    if len(statements) > 1:
        raise QueryRefusal(
            f"the query is {len(statements)} statements, not one",
            hint="a view is one `select`",
            at=statements[1].stmt_location,
        )
    statement = statements[0].stmt
    if not isinstance(statement, ast.SelectStmt):
        raise QueryRefusal(
            "the query is not a `select`", hint="a view only reads", at=0
        )
    if query.rstrip().endswith(";"):
        raise QueryRefusal(
            "the query ends with a semicolon",
            hint="leave it out",
            at=len(query.rstrip()) - 1,
        )
    _read_only(statement)
    return statement


def check_condition(text: str) -> None:
    """QueryRefusal unless the text is one expression: `a) or (b` is none, although it
    could be read between parentheses."""
    try:
        for whole in (text, f"(\n{text}\n)"):
            parse_sql(f"select {whole}")
    except ParseError as error:
        raise QueryRefusal(f"it is not one expression: {error.args[0]}") from error


def parse_printed(query: str) -> ast.SelectStmt:
    """A query that Postgres printed, its SQL/JSON aggregates as the functions that
    they are. QueryRefusal for words of a Postgres that is newer than the parser."""
    try:
        [raw] = parse_sql(query)
    except ParseError as error:
        raise QueryRefusal(
            f"the query cannot be read as Postgres prints it: {error.args[0]}",
            hint="write it without the newest words of SQL",
        ) from error
    assert isinstance(raw.stmt, ast.SelectStmt)
    for node in walk(raw.stmt):
        for name in node:
            part = getattr(node, name)
            if isinstance(part, _AGGREGATES):
                setattr(node, name, _as_function(part))
            elif isinstance(part, tuple):
                setattr(node, name, tuple(map(_as_function, part)))
    return raw.stmt


_AGGREGATES = (ast.JsonArrayAgg, ast.JsonObjectAgg)


def _as_function(node: Any) -> Any:
    """`json_arrayagg(…)` and `json_objectagg(…)` by the names of their functions."""
    if not isinstance(node, _AGGREGATES):
        return node
    made = node.constructor
    assert made is not None
    returned = made.output and made.output.typeName
    names = [str(n.sval) for n in (returned and returned.names) or ()]
    kind = "jsonb" if names[-1:] == ["jsonb"] else "json"
    strict = "_strict" if node.absent_on_null else ""
    parts: list[Any] = [node.arg]
    if isinstance(node, ast.JsonArrayAgg):
        name = f"{kind}_agg{strict}"
    else:
        unique = "_unique" if node.unique else ""
        name = f"{kind}_object_agg{unique}{strict}"
        parts = [node.arg and node.arg.key, node.arg and node.arg.value]
    return ast.FuncCall(
        funcname=(ast.String(sval=name),),
        args=tuple(
            p.raw_expr if isinstance(p, ast.JsonValueExpr) else p for p in parts
        ),
        agg_order=made.agg_order,
        agg_filter=made.agg_filter,
        over=made.over,
        location=made.location,
    )


def walk(node: Any) -> Iterator[ast.Node]:
    """The node and all that is in it, outer ones first, in the order of the text."""
    if isinstance(node, tuple | list):
        for item in node:
            yield from walk(item)
    elif isinstance(node, ast.Node):
        yield node
        for name in node:
            yield from walk(getattr(node, name))


def _read_only(statement: ast.SelectStmt) -> None:
    for node in walk(statement):
        if isinstance(node, _CHANGES):
            raise QueryRefusal(
                "the query changes data", hint="a view only reads", at=place(node)
            )
        if not isinstance(node, ast.SelectStmt):
            continue
        if node.intoClause is not None:
            raise QueryRefusal(
                "`select into` makes a table", hint="a view only reads", at=place(node)
            )
        if node.lockingClause:
            raise QueryRefusal(
                "the query locks rows",
                hint="leave out `for update`, `for share` and their like",
                at=place(node),
            )


def place(node: Any) -> int | None:
    """Where the node begins in the text, in characters; None when it does not tell."""
    for inner in walk(node):
        at = getattr(inner, "location", None)
        if isinstance(at, int) and at >= 0:
            return at
    return None
