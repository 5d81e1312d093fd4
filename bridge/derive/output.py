"""The output columns of a view: their types, and what may not be among them.

The one thing to know: JSON that the query builds is described by its parts as far as
the query tells them; what it does not tell is JSON of unknown content.
"""

from __future__ import annotations

from dataclasses import replace

from pglast import ast

from bridge.catalog import Analysis, Catalog, Uses
from bridge.derive import places
from bridge.derive.functions import CATALOG_TYPES
from bridge.derive.levels import Query, read
from bridge.derive.levels.model import Level, null_extended
from bridge.derive.levels.resolve import expand
from bridge.derive.parse import walk
from bridge.derive.shapes import made_of, type_shape
from bridge.derive.structure import UNKNOWN, Structures
from bridge.derive.ties import questioned
from bridge.errors import QueryRefusal
from bridge.shape import Column, Kind, TypeShape

_RELATIVE_TIMES = ("now", "today", "tomorrow", "yesterday")


def check_output(
    statement: ast.SelectStmt, analysis: Analysis, catalog: Catalog
) -> None:
    """Refuse what no document can have."""
    returning = {
        f.name
        for oid in analysis.uses.functions
        if (f := catalog.functions.get(oid)) is not None and f.returns_set
    }
    for target in statement.targetList or ():
        value = target.val
        if isinstance(value, ast.FuncCall) and value.funcname:
            name = str(value.funcname[-1].sval)
            if name in returning:
                raise QueryRefusal(
                    f"{name}() in the output makes several rows of one",
                    hint=f"gather them: `array(select {name}(…))`",
                    at=value.location,
                )
    for column in analysis.columns:
        kind = _of_catalog(column.type_oid, catalog)
        if kind is not None:
            raise _catalog_name(kind, output=column.name)


def check_shown(uses: Uses, catalog: Catalog) -> None:
    """Refuse texts of names out of the catalog, wherever they are made."""
    for oid in sorted(uses.shown):
        kind = _of_catalog(oid, catalog)
        if kind is not None:
            raise _catalog_name(kind)


def _of_catalog(oid: int, catalog: Catalog) -> str | None:
    found = (of.name for of in made_of(catalog.types, oid))
    return next((name for name in found if name in CATALOG_TYPES), None)


def _catalog_name(kind: str, output: str | None = None) -> places.NamedRefusal:
    return places.NamedRefusal(
        f"the text of a {kind} is a name out of the catalog, whose changes are not "
        "followed",
        hint="give out the oid, as in `x::oid`, or keep the name in a column",
        output=output,
        type_name=kind,
    )


def check_constants(source: ast.SelectStmt, printed: ast.SelectStmt) -> None:
    """Refuse `'today'` and its like where it was read as a time.

    Postgres reads such a text once, when it reads the query: it is gone from the
    printed one, and would be another day each time that the view is planned.
    """
    kept = [_relative(node) for node in walk(printed)]
    for node in walk(source):
        word = _relative(node)
        if word is None:
            continue
        if word in kept:
            kept.remove(word)
            continue
        raise QueryRefusal(
            f"'{word}' is read once, when the view is planned, and stays that time",
            hint="leave it out, or write the time that is meant",
            at=places.location(node),
        )


def _relative(node: ast.Node) -> str | None:
    if not isinstance(node, ast.A_Const) or not isinstance(node.val, ast.String):
        return None
    word = str(node.val.sval).strip().lower()
    return word if word in _RELATIVE_TIMES else None


def output_shape(
    analysis: Analysis, catalog: Catalog, query: Query
) -> tuple[Column, ...]:
    """The output columns with their types."""
    structures = Structures(query, catalog, analysis.parts)
    columns = []
    for index, output in enumerate(analysis.columns):
        shape = type_shape(catalog.types, output.type_oid, output.modifier)
        if _built(shape) and not query.root.branches:
            found = structures.of(query.root.outputs[index].value, query.root)
            if found != UNKNOWN:
                shape = replace(found, name=shape.name, oid=shape.oid)
        columns.append(
            Column(output.name, shape, nullable=_nullable(query.root, index))
        )
    return tuple(columns)


def _built(shape: TypeShape) -> bool:
    """Whether the query's text may tell more than the type does."""
    return shape.kind is Kind.JSON or (
        shape.element is not None and shape.element.kind is Kind.JSON
    )


def questions(
    statement: ast.SelectStmt, analysis: Analysis, catalog: Catalog
) -> list[str]:
    """Queries whose column types `output_shape` and `check_ties` ask for."""
    query = read(statement, catalog)
    structures = Structures(query, catalog, {})
    for output, column in zip(query.root.outputs, analysis.columns, strict=False):
        if _built(type_shape(catalog.types, column.type_oid, column.modifier)):
            structures.of(output.value, query.root)
    for value, level in questioned(query):
        structures.asked(value, level)
    return list(structures.questions)


def _nullable(root: Level, index: int) -> bool:
    """Whether the column may be null, as far as the query tells."""
    if root.branches or index >= len(root.outputs):
        return True
    readings = expand(root.outputs[index].value, root)
    if len(readings) != 1 or readings[0].plain is None:
        return True
    ref = readings[0].plain
    column = ref.occurrence.table.column(ref.column)
    return not column.not_null or bool(null_extended(ref.occurrence.leaf, root.top))
