"""Functions that a view may call, and those that would make it another at each look.

The one thing to know: Postgres' own parse of the query says which functions are
called, casts and operators that nobody wrote included. Immutable ones read nothing;
of the stable ones those that depend on nothing but pinned settings are known by name.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.catalog import Catalog, Function, Uses
from bridge.derive.places import NamedRefusal
from bridge.derive.shapes import made_of
from bridge.errors import QueryRefusal

_TIME = frozenset(
    "now transaction_timestamp statement_timestamp clock_timestamp timeofday".split()
)
_STABLE = frozenset(
    # Texts of values, by pinned settings alone.
    "to_char to_date to_timestamp to_number format concat concat_ws quote_literal "
    "quote_nullable array_to_string anytextcat textanycat money numeric xml "
    "convert_from convert_to "
    # JSON.
    "to_json to_jsonb row_to_json array_to_json json_build_object json_build_array "
    "jsonb_build_object jsonb_build_array json_agg jsonb_agg json_agg_strict "
    "jsonb_agg_strict json_object_agg json_object_agg_strict json_object_agg_unique "
    "json_object_agg_unique_strict jsonb_object_agg jsonb_object_agg_strict "
    "jsonb_object_agg_unique jsonb_object_agg_unique_strict json_populate_record "
    "jsonb_populate_record jsonb_populate_record_valid json_populate_recordset "
    "jsonb_populate_recordset json_to_record jsonb_to_record json_to_recordset "
    "jsonb_to_recordset jsonb_path_exists_tz jsonb_path_match_tz jsonb_path_query_tz "
    "jsonb_path_query_array_tz jsonb_path_query_first_tz "
    # Times in the pinned time zone.
    "timestamptz timestamp date time timetz date_trunc date_part extract timezone "
    "make_timestamptz generate_series timestamptz_pl_interval overlaps "
    "timestamptz_mi_interval interval_pl_timestamptz date_add date_subtract".split()
)
"""Names in pg_catalog; `_COMPARES` has the comparisons between kinds of times."""
_COMPARES = ("_cmp_", "_eq_", "_ne_", "_lt_", "_le_", "_gt_", "_ge_")
CATALOG_TYPES = frozenset(
    "regproc regprocedure regoper regoperator regclass regtype regrole regnamespace "
    "regconfig regdictionary regcollation regdatabase aclitem".split()
)
"""Types whose texts are names out of the catalog, whose changes are not followed."""
_TIMES = frozenset("date time timetz timestamp timestamptz".split())
"""Types that read `now` and `today` out of a text as the time that it is."""
_POPULATES = frozenset(
    f"{kind}_populate_{what}"
    for kind in ("json", "jsonb")
    for what in ("record", "recordset")
)
_ORDER_MATTERS = frozenset(
    "array_agg json_agg jsonb_agg json_agg_strict jsonb_agg_strict string_agg xmlagg "
    "json_object_agg json_object_agg_strict json_object_agg_unique "
    "json_object_agg_unique_strict".split()
)
ORDER_FREE = frozenset(
    "count sum avg min max bool_and bool_or every bit_and bit_or bit_xor "
    "jsonb_object_agg_unique jsonb_object_agg_unique_strict "
    "range_agg range_intersect_agg "
    "stddev stddev_pop stddev_samp variance var_pop var_samp corr covar_pop "
    "covar_samp regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope "
    "regr_sxx regr_sxy regr_syy mode percentile_cont percentile_disc rank dense_rank "
    "percent_rank cume_dist".split()
)
"""Aggregates, and windows, that give the same in whatever order their rows come."""
BY_NAME = frozenset(("jsonb_object_agg", "jsonb_object_agg_strict"))
"""Of two rows with one name these keep the later; `check_orders` looks at them."""
_ANY_OF_THEM = frozenset({"any_value"})
_FLOATS = (700, 701)
_ROUNDS = frozenset(
    "sum avg stddev stddev_pop stddev_samp variance var_pop var_samp corr covar_pop "
    "covar_samp regr_avgx regr_avgy regr_intercept regr_r2 regr_slope regr_sxx "
    "regr_sxy regr_syy".split()
)


class FunctionRefusal(QueryRefusal):
    """A function that a view may not call; `name` is how the query calls it."""

    def __init__(self, name: str, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.name = name


def check_functions(uses: Uses, catalog: Catalog, declared: Iterable[str]) -> None:
    """Refuse what gives another answer at each call, or reads what nobody follows."""
    allowed = frozenset(declared)
    for tag in sorted(uses.value_functions):
        raise FunctionRefusal(
            _VALUE_FUNCTIONS.get(tag, "current_timestamp"),
            f"{_VALUE_FUNCTIONS.get(tag, 'a session value')} gives another answer at "
            "each call, so documents would never be the same twice",
            hint="leave it out, or let the application set a column",
        )
    if uses.sequences:
        raise FunctionRefusal("nextval", "a query that counts up a sequence", hint="")
    for oid in sorted(uses.functions):
        function = catalog.functions.get(oid)
        if function is not None:
            _check(function, allowed)
    for oid in sorted(uses.operators):
        function = catalog.functions.get(catalog.operators.get(oid, 0))
        if function is not None:
            _check_hidden(function, allowed)
    _check_read(uses, catalog, allowed)
    for aggregate in uses.aggregates:
        function = catalog.functions.get(aggregate.function)
        if function is not None and not aggregate.ordered:
            _check_order(function, distinct=aggregate.distinct)


_VALUE_FUNCTIONS = {
    "0": "current_date",
    "1": "current_time",
    "2": "current_time",
    "3": "current_timestamp",
    "4": "current_timestamp",
    "5": "localtime",
    "6": "localtime",
    "7": "localtimestamp",
    "8": "localtimestamp",
    "9": "current_role",
    "10": "current_user",
    "11": "user",
    "12": "session_user",
    "13": "current_catalog",
    "14": "current_schema",
}


def _check(function: Function, declared: frozenset[str]) -> None:
    name = function.name
    called = f"{function.schema}.{name}"
    built_in = function.schema == "pg_catalog"
    if (built_in and name in _TIME) or _age_of_today(function):
        raise FunctionRefusal(
            name,
            f"function {name}() gives another answer at each call, so documents would "
            "never be the same twice",
            hint="leave it out, or let the application set a column",
        )
    if function.volatility == "v":
        raise FunctionRefusal(
            name,
            f"function {name}() is volatile: it may give another answer at each call",
            hint="leave it out, or declare the function immutable if it is",
        )
    if called in declared:
        return
    if built_in and (function.volatility == "i" or _known(function)):
        return
    if built_in:
        raise FunctionRefusal(
            name,
            f"function {name}() depends on the session or reads the catalog, whose "
            "changes are not followed",
            hint="leave it out, or keep what it gives in a column",
        )
    if function.extension is not None and function.volatility == "i":
        return
    plain = function.kind == "f" and function.language in ("c", "internal")
    if plain and function.volatility == "i":  # an aggregate is as good as its steps
        return
    raise FunctionRefusal(
        name,
        f"function {called}() may read tables that the planner cannot see",
        hint=f'if it reads none, say so in the view: functions = ["{called}"]',
    )


def _known(function: Function) -> bool:
    name = function.name
    return (
        name in _STABLE
        or any(part in name for part in _COMPARES)
        or name.endswith(("_eq", "_ne", "_lt", "_le", "_gt", "_ge"))
    )


def _check_hidden(function: Function, declared: frozenset[str]) -> None:
    """A function behind an operator."""
    if function.schema != "pg_catalog":
        _check(function, declared)
    elif function.volatility == "v" or not (
        function.volatility == "i" or _known(function)
    ):
        raise FunctionRefusal(
            function.name,
            f"function {function.name}() depends on more than its arguments",
            hint="leave it out, or keep what it gives in a column",
        )


def _check_read(uses: Uses, catalog: Catalog, declared: frozenset[str]) -> None:
    """Times that are read out of texts, where `today` is another day each day."""
    called = {f.name for o in uses.functions if (f := catalog.functions.get(o))}
    read = set(uses.read)
    if called & _POPULATES:
        read |= {oid for oid in uses.types if catalog.types[oid].kind == "c"}
    for oid in sorted(read):
        for of in made_of(catalog.types, oid):
            if of.schema != "pg_catalog" or of.name not in _TIMES:
                continue
            if f"pg_catalog.{of.name}_in" in declared:
                continue
            made = "to_date" if of.name == "date" else "to_timestamp"
            raise NamedRefusal(
                f"a text that is read as {of.name} may be 'now' or 'today', which is "
                "another time at each look",
                type_name=of.name,
                hint=f"read it by a pattern, as in `{made}(x, 'YYYY-MM-DD …')`, or, if "
                "no text there is such a word, say so in the view: "
                f'functions = ["pg_catalog.{of.name}_in"]',
            )


def rounding(uses: Uses, catalog: Catalog) -> frozenset[str]:
    """Windows that add up floating-point numbers, which rounds by the order."""
    return frozenset(
        f.name
        for oid in uses.windows
        if (f := catalog.functions.get(oid)) is not None and _rounds(f)
    )


def _rounds(function: Function) -> bool:
    floats = set(function.argument_types) & set(_FLOATS)
    return function.schema == "pg_catalog" and function.name in _ROUNDS and bool(floats)


def check_json(types: Iterable[int], catalog: Catalog, declared: Iterable[str]) -> None:
    """Functions by which Postgres makes the JSON of a type, which nobody wrote."""
    allowed = frozenset(declared)
    for oid in sorted(types):
        for of in made_of(catalog.types, oid):
            if of.json_cast and of.json_cast not in allowed:
                raise FunctionRefusal(
                    of.name,
                    f"the JSON of the type {of.name} is made by {of.json_cast}(), "
                    "which may read tables that the planner cannot see",
                    hint="if it reads none, say so in the view: "
                    f'functions = ["{of.json_cast}"]',
                )


def _age_of_today(function: Function) -> bool:
    return (
        function.schema == "pg_catalog"
        and function.name == "age"
        and len(function.argument_types) == 1
        and function.argument_types[0] in (1114, 1184)
    )


def _check_order(function: Function, *, distinct: bool) -> None:
    """An aggregate without `order by` whose answer depends on the order of rows."""
    name = function.name
    built_in = function.schema == "pg_catalog"
    if built_in and name in _ANY_OF_THEM:
        raise FunctionRefusal(
            name,
            f"{name}() may give another row's value at each call",
            hint="use min() or max()",
        )
    if _rounds(function):
        raise FunctionRefusal(
            name,
            f"{name}() of floating-point numbers rounds by the order of its rows",
            hint=f"add an order, as in `{name}(x order by x)`, or add up `x::numeric`",
        )
    if built_in and name in ORDER_FREE | BY_NAME:
        return
    if distinct and built_in and name not in ("json_agg", "json_agg_strict"):
        return  # sorted to find what is double
    if built_in and name not in _ORDER_MATTERS:
        return
    raise FunctionRefusal(
        name,
        f"the order of the rows in {name}() is left open",
        hint=f"add an order, as in `{name}(… order by …)`",
    )
