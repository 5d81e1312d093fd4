"""What Postgres says of the tables, types and functions that views stand on.

    read_catalog(connection, definitions, search_path) -> Catalog     asks Postgres
    read_types(connection, oids) -> {oid: Type}                       some types alone
    read_traces(connection, depends_on) -> Traces                     what has changed
    describe(connection, queries) -> {query: (type, modifier)}        of their columns

The one thing to know: reading is here and takes a connection; everything that it
gives is a plain value, and planning a view needs nothing else.
"""

from bridge.catalog.analysis import describe
from bridge.catalog.model import (
    FIRST_USER_OID,
    Aggregate,
    Analysis,
    AnalysisFailure,
    Catalog,
    DatabaseView,
    Function,
    Index,
    Leaf,
    Names,
    OutputColumn,
    RelationKind,
    Table,
    TableColumn,
    Type,
    Uses,
)
from bridge.catalog.read import Definition, read_catalog, read_types
from bridge.catalog.traces import Aspect, Trace, Traces, compare, read_traces

__all__ = [
    "FIRST_USER_OID",
    "Aggregate",
    "Analysis",
    "AnalysisFailure",
    "Aspect",
    "Catalog",
    "DatabaseView",
    "Definition",
    "Function",
    "Index",
    "Leaf",
    "Names",
    "OutputColumn",
    "RelationKind",
    "Table",
    "TableColumn",
    "Trace",
    "Traces",
    "Type",
    "Uses",
    "compare",
    "describe",
    "read_catalog",
    "read_traces",
    "read_types",
]
