"""Where in the user's text something stands that was found in the expanded query.

The one thing to know: planning works on the query as Postgres prints it, which has no
places of the user's text; a name is looked for there again, the first one wins.
"""

from __future__ import annotations

from collections.abc import Sequence

from pglast import ast, parse_sql
from pglast.parser import scan

from bridge.derive.parse import walk
from bridge.errors import QueryRefusal


class NamedRefusal(QueryRefusal):
    """A refusal whose place is found by what the user wrote there.

    `output` is an output column; `words` are key words of which one stands there;
    `type_name` is a type that something is cast to there.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        words: Sequence[str] = (),
        output: str | None = None,
        type_name: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.words = tuple(words)
        self.output = output
        self.type_name = type_name

    def locate(self, source: str) -> None:
        """Set the place, if it is found in the text."""
        if self.output is not None:
            self.at = of_output(source, self.output)
        if self.at is None and self.type_name is not None:
            self.at = of_type(source, self.type_name)
        if self.at is None and self.words:
            self.at = of_word(source, *self.words)


def of_function(source: str, name: str) -> int | None:
    """Where a function, or a value such as `current_date`, is first called."""
    for node in _nodes(source):
        if isinstance(node, ast.FuncCall) and node.funcname:
            if node.funcname[-1].sval == name:
                return location(node)
        elif isinstance(node, ast.JsonArrayAgg | ast.JsonObjectAgg):
            kind = "_agg" if isinstance(node, ast.JsonArrayAgg) else "_object_agg"
            if name.startswith((f"json{kind}", f"jsonb{kind}")) and node.constructor:
                return location(node.constructor)
        elif isinstance(node, ast.SQLValueFunction):
            text = source[node.location or 0 :].lower()
            if text.startswith(name):
                return location(node)
    at = source.lower().find(name.lower())
    return at if at >= 0 else None


def of_table(source: str, alias: str, table: str) -> int | None:
    """Where a table is named in `from`: under this alias, else by its own name."""
    named = [n for n in _nodes(source) if isinstance(n, ast.RangeVar)]
    for node in named:
        called = node.relname if node.alias is None else node.alias.aliasname
        if called == alias and node.relname == table:
            return location(node)
    for node in named:
        if node.relname == table:
            return location(node)
    return None


def of_word(source: str, *words: str) -> int | None:
    """Where one of these key words first stands."""
    for token in scan(source):
        if source[token.start : token.end + 1].lower() in words:
            return int(token.start)
    return None


def of_type(source: str, name: str) -> int | None:
    """Where a type is named."""
    for node in _nodes(source):
        names = (isinstance(node, ast.TypeName) and node.names) or ()
        if names and str(names[-1].sval) == name:
            return location(node)
    return None


def of_quoted(source: str, message: str) -> int | None:
    """Where the output column stands that a message of Postgres names in quotes."""
    _, _, rest = message.partition('"')
    name = rest.partition('"')[0]
    return (of_output(source, name) if name else None) or of_outputs(source)


def of_outputs(source: str) -> int | None:
    """Where the output of the outermost select begins: for what is of the whole."""
    [raw] = parse_sql(source)
    targets = raw.stmt.targetList if isinstance(raw.stmt, ast.SelectStmt) else None
    return location(targets[0]) if targets else 0


def of_output(source: str, name: str) -> int | None:
    """Where an output column of the outermost select stands."""
    [raw] = parse_sql(source)
    statement = raw.stmt
    if not isinstance(statement, ast.SelectStmt):
        return None
    for target in statement.targetList or ():
        value = target.val
        names = (isinstance(value, ast.ColumnRef) and value.fields) or (None,)
        last = names[-1]
        own = last.sval if isinstance(last, ast.String) else None
        if name in (target.name, own):
            return location(target)
    return None


def _nodes(source: str) -> list[ast.Node]:
    return [node for raw in parse_sql(source) for node in walk(raw.stmt)]


def location(node: ast.Node) -> int | None:
    """Where a node stands, if it says so itself."""
    at = getattr(node, "location", None)
    return at if isinstance(at, int) and at >= 0 else None
