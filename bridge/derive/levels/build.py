"""From a printed query to its levels: common table expressions and views expanded.

The one thing to know: each reference to a CTE or a view becomes a copy of its own, so
that two references never share an occurrence of a table.
"""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast
from pglast.enums import (
    BoolExprType,
    JoinType,
    SetOperation,
    SubLinkType,
)

from bridge.catalog import Catalog, Table
from bridge.derive.levels.expressions import Expression, Scope, opened, tables_of
from bridge.derive.levels.model import (
    Arm,
    Condition,
    Derived,
    Item,
    Level,
    Node,
    Occurrence,
    Opaque,
    Output,
    Place,
    Query,
)
from bridge.derive.levels.rules import Rule, Rules
from bridge.derive.parse import parse_printed, walk
from bridge.derive.places import NamedRefusal
from bridge.errors import QueryRefusal

_SEMI = (SubLinkType.EXISTS_SUBLINK, SubLinkType.ANY_SUBLINK)
DEPTH_MAX = 64
"""Levels inside levels; a query beyond that is not read."""


def build(statement: ast.SelectStmt, catalog: Catalog, rules: Rules) -> Query:
    """The levels of a query. QueryRefusal for what no algorithm here reads."""
    builder = _Builder(catalog, rules)
    root = builder.level(statement, None, Scope())
    root.top = Node(root, None, Arm.ITEM)
    builder.fill(root, Scope())
    idle = builder.idle()
    return Query(root, builder.levels, builder.occurrences, idle)


class _Builder:
    def __init__(self, catalog: Catalog, rules: Rules) -> None:
        self._catalog = catalog
        self._rules = rules
        self._shared: dict[int, Level] = {}
        self._defined: list[Expression] = []
        self._referred: set[int] = set()
        self.levels: list[Level] = []
        self.occurrences: list[Occurrence] = []
        self._aliases: set[str] = set()

    def idle(self) -> frozenset[int]:
        """Tables read only by expressions of a `with` that nothing refers to."""
        unused = [e for e in self._defined if id(e.definition) not in self._referred]
        return tables_of(unused, self._catalog)

    def level(
        self, statement: ast.SelectStmt, parent: Level | None, scope: Scope
    ) -> Level:
        if scope.depth > DEPTH_MAX:
            raise QueryRefusal(
                f"the query is nested more than {DEPTH_MAX} levels deep",
                hint="leave out views that only repeat others",
            )
        level = Level(statement, parent)
        self.levels.append(level)
        return level

    def below(
        self, statement: ast.SelectStmt, parent: Level | None, leaf: Node, scope: Scope
    ) -> Level:
        """A level of its own beneath a leaf."""
        inner = Scope(scope.expressions, scope.depth + 1)
        level = self.level(statement, parent, inner)
        level.top = Node(level, leaf, Arm.DERIVED)
        self.fill(level, inner)
        return level

    def fill(self, level: Level, scope: Scope) -> None:
        statement = level.statement
        scope = opened(statement, level, scope, self._defined)
        if statement.op != SetOperation.SETOP_NONE:
            self._branches(level, scope)
            return
        for item in statement.fromClause or ():
            self._range(item, level, level.top, Arm.ITEM, scope)
        self._outputs(level)
        where = Place(level.top)
        self._conditions(statement.whereClause, level, where, scope)
        rest = (
            statement.targetList,
            statement.valuesLists,
            statement.groupClause,
            statement.havingClause,
            statement.windowClause,
            statement.distinctClause,
            statement.sortClause,
            statement.limitOffset,
            statement.limitCount,
        )
        self._others(rest, level, where, scope)

    def _branches(self, level: Level, scope: Scope) -> None:
        statement = level.statement
        for side in (statement.larg, statement.rarg):
            assert side is not None
            inner = Scope(scope.expressions, scope.depth + 1)
            branch = self.level(side, level.parent, inner)
            branch.top = Node(branch, level.top, Arm.BRANCH)
            self.fill(branch, inner)
            level.branches.append(branch)
        level.outputs = list(level.branches[0].outputs)
        rest = (statement.sortClause, statement.limitOffset, statement.limitCount)
        self._others(rest, level, Place(level.top), scope)

    def _outputs(self, level: Level) -> None:
        if level.statement.valuesLists:
            return
        for target in level.statement.targetList or ():
            level.outputs.append(Output(_output_name(target), target.val))

    # Range items.

    def _range(
        self, item: ast.Node, level: Level, parent: Node, arm: Arm, scope: Scope
    ) -> None:
        match item:
            case ast.JoinExpr():
                self._join(item, level, parent, arm, scope)
            case ast.RangeVar():
                self._table(item, level, Node(level, parent, arm), scope)
            case ast.RangeSubselect():
                leaf = Node(level, parent, arm)
                assert isinstance(item.subquery, ast.SelectStmt)
                assert item.alias is not None
                # Without `lateral` it sees what is around the level, not its items.
                around = level if item.lateral else level.parent
                body = self.below(item.subquery, around, leaf, scope)
                _add(level, str(item.alias.aliasname), _derived(body, leaf, item.alias))
            case ast.RangeFunction() | ast.RangeTableFunc() | ast.JsonTable():
                leaf = Node(level, parent, arm)
                self._others(item, level, Place(leaf), scope)
                alias = item.alias
                name = _function_name(item) if alias is None else str(alias.aliasname)
                _add(level, name, Opaque(leaf, None))
            case ast.RangeTableSample():
                raise NamedRefusal(
                    "`tablesample` gives other rows at each call",
                    hint="leave it out",
                    words=("tablesample",),
                )
            case _:
                raise QueryRefusal(f"{type(item).__name__} in `from` is not read")

    def _join(
        self, join: ast.JoinExpr, level: Level, parent: Node, arm: Arm, scope: Scope
    ) -> None:
        if join.alias is not None or join.join_using_alias is not None:
            raise QueryRefusal(
                "a join with a name of its own is not read",
                hint="give names to the tables rather than to the join",
            )
        node = Node(level, parent, arm)
        match join.jointype:
            case JoinType.JOIN_INNER:
                arms = (Arm.ITEM, Arm.ITEM)
            case JoinType.JOIN_LEFT:
                arms = (Arm.KEPT, Arm.NULLABLE)
            case JoinType.JOIN_RIGHT:
                arms = (Arm.NULLABLE, Arm.KEPT)
            case _:
                raise NamedRefusal(
                    "a full join has no side from which its rows could be found",
                    hint="join both sides to the table that has all keys",
                    words=("full",),
                )
        node.outer = Arm.NULLABLE in arms
        for side, of in zip((join.larg, join.rarg), arms, strict=True):
            assert side is not None
            self._range(side, level, node, of, scope)
        for name in join.usingClause or ():
            left, right = (
                _owner(level, child, str(name.sval)) for child in node.children
            )
            equal = ast.A_Expr(
                kind=0,
                name=(ast.String(sval="="),),
                lexpr=_column(left, str(name.sval)),
                rexpr=_column(right, str(name.sval)),
            )
            level.conditions.append(Condition(equal, level, Place(node)))
        self._conditions(join.quals, level, Place(node), scope)

    def _table(
        self, item: ast.RangeVar, level: Level, leaf: Node, scope: Scope
    ) -> None:
        name = str(item.relname)
        alias = item.alias
        label = name if alias is None else str(alias.aliasname)
        if item.schemaname is None and name in scope.expressions:
            body, columns = self._expression(scope.expressions[name], leaf, scope)
            given = _names(alias)
            columns = (*given, *columns[len(given) :])
            _add(level, label, Derived(body, leaf, columns))
            return
        try:
            schema = item.schemaname or "pg_catalog"  # which alone is left out
            relation = self._catalog.relation(schema, name)
        except KeyError:
            raise QueryRefusal(
                f"{name} is not a table that can be followed",
                hint="views are made of tables that Postgres publishes",
            ) from None
        given = _names(alias)
        if isinstance(relation, Table):
            columns = (*given, *relation.names[len(given) :])
            self.occurrences.append(
                Occurrence(
                    relation,
                    self._unique(label),
                    label,
                    level,
                    leaf,
                    columns,
                    not item.inh,
                )
            )
            _add(level, label, self.occurrences[-1])
            return
        body = self.below(
            parse_printed(relation.definition),
            None,
            leaf,
            Scope(depth=scope.depth),
        )
        columns = (*given, *relation.columns[len(given) :])
        _add(level, label, Derived(body, leaf, columns))

    def _expression(
        self, expression: Expression, leaf: Node, scope: Scope
    ) -> tuple[Level, tuple[str, ...]]:
        """A copy of a common table expression, and what its columns are called."""
        definition = expression.definition
        self._referred.add(id(definition))
        inner = Scope(expression.around.expressions, scope.depth)
        assert isinstance(definition.ctequery, ast.SelectStmt)
        body = self._shared.get(id(definition))
        if body is None:
            body = self.below(definition.ctequery, expression.parent, leaf, inner)
        if Rule.COPIES not in self._rules:
            self._shared[id(definition)] = body
        given = [str(c.sval) for c in definition.aliascolnames or ()]
        names = [o.name for o in body.outputs]
        return body, (*given, *names[len(given) :])

    def _unique(self, label: str) -> str:
        name, number = label, 1
        while name in self._aliases:
            number += 1
            name = f"{label}_{number}"
        self._aliases.add(name)
        return name

    # Conditions and sub-selects.

    def _conditions(
        self, value: ast.Node | None, level: Level, place: Place, scope: Scope
    ) -> None:
        for conjunct in _conjuncts(value):
            if isinstance(conjunct, ast.SubLink) and conjunct.subLinkType in _SEMI:
                self._semi(conjunct, level, place, scope)
                continue
            level.conditions.append(Condition(conjunct, level, place))
            if Rule.POSITIVE not in self._rules:
                for link in sublinks(conjunct):
                    self._semi(link, level, place, scope)
                continue
            self._others(conjunct, level, place, scope)

    def _semi(
        self, link: ast.SubLink, level: Level, place: Place, scope: Scope
    ) -> None:
        leaf = Node(level, place.node, Arm.SEMI, place=place)
        body = self._sub_select(link, level, leaf, scope)
        if link.testexpr is None:
            return
        self._others(link.testexpr, level, place, scope)
        # Its outputs, compared with what stands before `in`, under a hidden name.
        name = f" in {len(self.levels)}"
        columns = tuple(f"c{i}" for i in range(len(body.outputs)))
        level.compared[name] = Derived(body, leaf, columns)
        tested = (
            link.testexpr.args
            if isinstance(link.testexpr, ast.RowExpr)
            else (link.testexpr,)
        )
        operator = link.operName or (ast.String(sval="="),)
        if len(tested or ()) > 1 and operator[-1].sval != "=":
            return
        for value, column in zip(tested or (), columns, strict=False):
            compared = ast.A_Expr(
                kind=0, name=operator, lexpr=value, rexpr=_column(name, column)
            )
            level.conditions.append(Condition(compared, level, place))

    def _sub_select(
        self, link: ast.SubLink, level: Level, leaf: Node, scope: Scope
    ) -> Level:
        assert isinstance(link.subselect, ast.SelectStmt)
        body = self.below(link.subselect, level, leaf, scope)
        body.asked = link.subLinkType == SubLinkType.EXISTS_SUBLINK
        body.listed = link.subLinkType == SubLinkType.ARRAY_SUBLINK
        return body

    def _others(self, value: object, level: Level, place: Place, scope: Scope) -> None:
        for link in sublinks(value):
            leaf = Node(level, place.node, Arm.OTHER)
            self._sub_select(link, level, leaf, scope)
            self._others(link.testexpr, level, place, scope)


def sublinks(value: object) -> Iterator[ast.SubLink]:
    """The outermost sub-selects in an expression or a list of them."""
    if isinstance(value, ast.SubLink):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from sublinks(item)
    elif isinstance(value, ast.Node):
        for name in value:
            yield from sublinks(getattr(value, name))


def _conjuncts(value: ast.Node | None) -> Iterator[ast.Node]:
    if value is None:
        return
    if isinstance(value, ast.BoolExpr) and value.boolop == BoolExprType.AND_EXPR:
        for argument in value.args or ():
            yield from _conjuncts(argument)
    else:
        yield value


def _derived(body: Level, leaf: Node, alias: ast.Alias) -> Item:
    given = _names(alias)
    if body.statement.valuesLists:
        return Opaque(leaf, given or None)
    names = tuple(o.name for o in body.outputs)
    return Derived(body, leaf, (*given, *names[len(given) :]))


def _add(level: Level, name: str, item: Item) -> None:
    if name in level.items:
        raise QueryRefusal(f"two tables are called {name}", hint="rename one of them")
    level.items[name] = item


def _owner(level: Level, node: Node, column: str) -> str:
    """The first item beneath a node that has the column: it stands for `using`."""
    for name, item in level.items.items():
        if item.leaf.within(node) and column in (item.columns or ()):
            return name
    raise QueryRefusal(
        f"the column {column} of `using` is not one of a table",
        hint="write the condition with `on`",
    )


def _column(item: str, column: str) -> ast.ColumnRef:
    return ast.ColumnRef(fields=(ast.String(sval=item), ast.String(sval=column)))


def _names(alias: ast.Alias | None) -> tuple[str, ...]:
    return tuple(str(c.sval) for c in (alias and alias.colnames) or ())


def _function_name(item: ast.Node) -> str:
    for node in walk(item):
        if isinstance(node, ast.FuncCall) and node.funcname:
            return str(node.funcname[-1].sval)
    return "?"


def _output_name(target: ast.ResTarget) -> str:
    if target.name is not None:
        return str(target.name)
    value = target.val
    if isinstance(value, ast.ColumnRef) and value.fields:
        last = value.fields[-1]
        return str(last.sval) if isinstance(last, ast.String) else "*"
    return "?column?"
