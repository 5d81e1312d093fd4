"""Families of queries around one trap each, which a general grammar seldom meets."""

from __future__ import annotations

from collections.abc import Callable

from tests.property.derive import kinds
from tests.property.derive.grammar import Grammar
from tests.property.derive.terms import Named, Role, Term


def limits(g: Grammar) -> str:
    """Rows displaced by others, beneath and above links."""
    r, u, m, w = g.roles(4)
    where = g.pick(
        f"{u.col()} = {r.col()}",
        f"{u.col()} = {m.col()}",
        f"{u.col()} = {m.col()} and {u.col()} = {r.col()}",
        f"{u.col()} > {g.literal(u.a)}",
    )
    given, by = f"{u.a} a, {u.b} b, {u.c} c", u.col()
    inner = g.pick(
        f"select {given} from {u} where {where} order by {by}, {u.order} limit 1",
        f"select distinct on ({by}) {given} from {u} where {where} "
        f"order by {by}, {u.c}, {u.order}",
        f"select {u.a} a, {u.b.greatest} b, count(*) c from {u} where {where} "
        f"group by {u.a}",
        f"select {u.a.greatest} a, {u.b.greatest} b, count(*) c from {u} where {where}",
        f"select {u.a} a, {u.b} b, row_number() over "
        f"(partition by {by} order by {u.order}) c from {u} where {where}",
    )
    q = _above(u, "q", counted=given not in inner)
    join = g.pick("join", "left join")
    on = g.pick("true", f"{q.col()} = {r.col()}", f"{q.col()} = {m.col()}")
    middle = g.pick("join", "left join")
    tail = ""
    if g.chance(0.4):
        tail = f" {g.pick('join', 'left join')} {w} on {w.col()} = {q.col()}"
    group = g.pick("", "", q.col(), r.col())
    body = (
        f"from {r} {middle} {m} on {m.col()} = {r.col()} "
        f"{join} lateral ({inner}) q on {on}{tail}"
    )
    if group:
        return (
            f"select {group} as k, count(*) n, "
            f"array_agg({r.id.taken} order by {r.order}) ids {body} group by {group}"
        )
    key = g.pick(r.keyed, m.keyed, r.keyed, f"{q.a} k")
    return f"select {key}, q.a qa, q.b qb, q.c qc {body}"


def _above(u: Named, alias: str, *, counted: bool) -> Named:
    """A sub-select that gives a, b and c, of which c may be a count."""
    a, b, c = (Term(f"{alias}.{n}", u.columns[n].kind) for n in "abc")
    if counted:
        number = u.a.family is kinds.NUMBER
        c = Term(f"{alias}.c", kinds.BIGINT) if number else a
    return Named(u.dice, alias, (a, a, b, c))


def preserved(g: Grammar) -> str:
    """Conditions of outer joins that name the preserved side."""
    r, u, v, w = g.roles(4)
    one, two = g.pick("left join", "right join", "join"), g.pick("left join", "join")
    some = g.literal(v.a)
    inner = (
        f"from {u} {one} {v} on {v.col()} = {u.col()} and "
        + g.pick(f"{v.col()} = {r.col()}", f"{u.col()} = {r.col()}", f"{v.a} = {some}")
        + f" {two} {w} on {w.col()} = {g.pick(u.col(), v.col(), r.col())}"
    )
    where = g.pick("", f" where {u.col()} = {r.col()}", f" where {v.a} = {r.col()}")
    form = g.pick("scalar", "lateral", "exists", "outer")
    if form == "scalar":
        return f"select {r.keyed}, (select count(*) {inner}{where}) n from {r}"
    if form == "exists":
        return f"select {r.shown} from {r} where exists (select {inner}{where})"
    if form == "lateral":
        join = g.pick("join", "left join")
        return (
            f"select {r.keyed}, q.x from {r} {join} lateral "
            f"(select {u.a} x {inner}{where}) q on true"
        )
    return (
        f"select {g.pick(r.keyed, u.keyed)}, {u.a} ua, {v.b} vb from {r} "
        f"{g.pick('left join', 'join', 'right join')} {u} on {u.col()} = {r.col()} "
        f"{g.pick('left join', 'join')} {v} on {v.col()} = {u.col()} "
        f"and {r.col()} = {g.pick(some, v.b)}"
    )


def non_strict(g: Grammar) -> str:
    """Links that hold for nulls too."""
    r, u, t = g.roles(3)
    some = g.literal(u.a)
    source = str(u)
    if g.chance(0.5):
        source = (
            f"(select {u.id} id, {u.a} a, coalesce({u.b}, {some}) b, {u.c} c "
            f"from {u}) u"
        )
        u = u.renamed("u")
    through = g.pick(
        f"coalesce({u.col()}, {some})",
        f"coalesce({u.col()}, {r.col()})",
        f"case when {u.id} is null then {some} else {u.col()} end",
        u.col(),
    )
    compare = g.pick("=", "=", "is not distinct from")
    first = g.pick("left join", "left join", "join")
    tail = g.pick("", "", f" where {u.col()} = {some}", f" where {u.id} is not null")
    return (
        f"select {r.keyed}, {u.a} ua, {t.b} tb from {r} {first} {source} "
        f"on {u.col()} = {r.col()} {g.pick('left join', 'join')} {t} "
        f"on {t.col()} {compare} {through}{tail}"
    )


def either(g: Grammar) -> str:
    """`or` between links, and in what tests them."""
    r, u, v = g.roles(3)
    several = g.chance(0.5)
    sources = f"{u}, {v}" if several else str(u)
    v_ = v if several else r
    links = [f"{u.col()} = {r.col()}", f"{u.col()} = {v_.col()}"]
    g.dice.shuffle(links)
    some = g.literal(r.a)
    third = g.pick(
        f"{v_.col()} = {r.col()}", f"{u.col()} = {r.col()}", f"{r.a} = {some}"
    )
    where = g.pick(
        f"{links[0]} or {links[1]}",
        f"({links[0]} or {third}) and {links[1]}",
        f"({links[0]} and {third}) or {links[1]}",
        f"{links[0]} or {u.col()} = {r.col()}",
        f"{links[0]} and ({links[1]} or {u.a} is null)",
    )
    form = g.pick("scalar", "exists", "join", "in")
    if form == "scalar":
        return (
            f"select {r.keyed}, (select count(*) from {sources} where {where}) n "
            f"from {r}"
        )
    if form == "exists":
        return (
            f"select {r.shown} from {r} where exists "
            f"(select from {sources} where {where})"
        )
    if form == "in":
        no = g.pick("", "not ", "")
        also = g.pick("", f"or {r.b} = {some}", f"and {r.b} = {some}")
        return (
            f"select {r.shown} from {r} where {r.col()} {no}in "
            f"(select {u.col()} from {sources} where {where}) {also}"
        )
    return (
        f"select {r.keyed}, {u.a} ua from {r}, {sources} where {where}"
        if several
        else f"select {r.keyed}, {u.a} ua from {r} join {sources} on {where}"
    )


def groups(g: Grammar) -> str:
    """Keys out of groups, moved along equalities, and the null group."""
    r, u, v = g.roles(3)
    one, two = g.pick("left join", "join"), g.pick("left join", "join", "right join")
    of = g.dice.choice((r, u, v))
    key = [g.pick(of.id, of.a, of.b)]
    if g.chance(0.3):
        key.append(of.c)
    if g.chance(0.15):
        key = of.key
    some = g.literal(u.a)
    on = g.pick("", f" and {u.col()} = {some}", f" and {r.col()} = {some}")
    having = g.pick("", "", " having count(*) > 1")
    where = g.pick(
        "", "", f" where {u.col()} = {some}", f" where {r.col()} is not null"
    )
    listed = ", ".join(f"{k} as k{n}" for n, k in enumerate(key))
    g.listed = [f"k{n}" for n in range(len(key))]
    return (
        f"select {listed}, count(*) n, array_agg({r.id.taken} order by {r.order}) ids "
        f"from {r} {one} {u} on {g.pick(u.id, u.a)} = {r.col()}{on} "
        f"{two} {v} on {g.pick(v.id, v.a)} = {g.pick(u.col(), r.col())}{where} "
        f"group by {', '.join(key)}{having}"
    )


def circles(g: Grammar) -> str:
    """Occurrences with several ways to the key."""
    r, u, v, w = g.roles(4)
    links = [
        f"{u.col()} = {r.col()}",
        f"{v.col()} = {r.col()}",
        f"{u.col()} = {v.col()}",
        f"{w.col()} = {u.col()}",
        f"{w.col()} = {v.col()}",
    ]
    g.dice.shuffle(links)
    where = " and ".join(links[: g.dice.randint(3, 5)])
    if g.chance(0.5):
        return (
            f"select {r.keyed}, {u.a} ua, {v.b} vb, {w.c} wc "
            f"from {r}, {u}, {v}, {w} where {where}"
        )
    return (
        f"select {r.keyed}, (select count(*) from {u}, {v}, {w} where {where}) n "
        f"from {r}"
    )


def twice(g: Grammar) -> str:
    """A CTE or a view that is referred to more than once."""
    r, u, v = g.roles(3)
    body = g.pick(
        f"select {u.all} from {u} where {u.col()} = {g.literal(u.a)}",
        f"select {u.id} id, {u.a} a, {u.b} b, {v.c} c from {u} left join {v} "
        f"on {v.a} = {u.b}",
        f"select {u.a} a, {u.b.greatest} b, {u.c.greatest} c, {u.id.greatest} id "
        f"from {u} group by {u.a}",
        f"select {u.all} from {u} union all select {u.all} from {u}",
    )
    word = g.pick("", "materialized ", "not materialized ")
    x, y, z = (u.renamed(alias) for alias in "xyz")
    return (
        f"with e as {word}({body}) select {r.keyed}, {x.b} xb, "
        f"(select {y.c.gathered} from e y "
        f"where {y.col()} = {r.col()}) l "
        f"from {r} {g.pick('join', 'left join')} e x on {x.a} = {r.col()}"
        + g.pick("", f" where exists (select from e z where {z.a} = {r.col()})")
    )


def displaced(g: Grammar) -> str:
    """One row of a group or limit takes another's place, and conditions above it."""
    r, u, v = g.roles(3)
    column, other = u.col(), u.col()
    where = f"where {column} = {r.col()}"
    inner = g.pick(
        f"select {u.a} a, {u.b} b, {u.c} c from {u} {where} "
        f"order by {other}, {u.order} limit 1",
        f"select {u.a.greatest} a, {u.b.greatest} b, count(*) c from {u} {where}",
        f"select {other} a, {u.b.greatest} b, count(*) c from {u} {where} "
        f"group by {other}",
        f"select distinct on ({other}) {other} a, {u.id} b, {u.c} c from {u} {where} "
        f"order by {other}, {u.c}, {u.order}",
        f"select {u.a} a, {u.b} b, "
        f"row_number() over (partition by {other} order by {u.order}) c "
        f"from {u} {where}",
    )
    of = g.pick("q.a", "q.b")
    above = f"{of} = {r.col()}"
    form = g.pick("on", "where", "group", "exists", "always")
    if form == "exists":
        free = inner.replace(where, "")
        return (
            f"select {r.shown} from {r} where {r.col()} in (select q.b from ({free}) q)"
        )
    if form == "always":
        return (
            f"select {v.keyed}, q.n from {v} join {r} on {r.a} = {v.col()} "
            f"join lateral (select count(*) n from {u} where {u.b} = {v.col()}) q "
            "on true"
        )
    if form == "group":
        return (
            f"select {of} as k, count(*) n, "
            f"array_agg({r.id.taken} order by {r.order}) i "
            f"from {r} join lateral ({inner}) q on true group by 1"
        )
    if form == "on":
        return (
            f"select {r.keyed}, q.a qa, q.c qc from {r} join lateral ({inner}) q "
            f"on {above}"
        )
    return f"select {r.keyed}, q.a qa from {r}, lateral ({inner}) q where {above}"


def unions(g: Grammar) -> str:
    """Links that lead into the sides of a union."""
    r, u, v, w = g.roles(4)
    word = g.pick("union all", "union", "except", "intersect")
    body = (
        f"select {u.col()} x, {u.col()} y from {u} {word} "
        f"select {v.col()}, {v.col()} from {v}"
    )
    join = g.pick("join", "left join")
    tail = g.pick(
        "",
        f" join {w} on {w.col()} = q.y",
        f" left join {w} on {w.a} = q.{g.pick('x', 'y')}",
    )
    return g.pick(
        f"select {r.keyed}, q.y from {r} {join} ({body}) q on q.x = {r.col()}{tail}",
        f"select {r.keyed}, (select count(*) from ({body}) q{tail} "
        f"where q.x = {r.col()}) n from {r}",
        f"select {r.shown} from {r} where exists (select from ({body}) q{tail} "
        f"where q.x = {r.col()})",
        f"select {w.keyed}, q.y from {w} join {r} on {r.col()} = {w.col()} "
        f"join ({body}) q on q.x = {r.col()}",
    )


def one_row(g: Grammar) -> str:
    """An aggregate without `group by` gives its row whatever its conditions say."""
    r, u, v = g.roles(3)
    agg = f"select count(*) n, {u.a.greatest} m from {u} where {u.col()} = {r.col()}"
    link = f"{u.col()} = {v.col()}"
    return g.pick(
        f"select {v.keyed}, q.n from {v} join {r} on {r.col()} = {v.col()} "
        f"join lateral ({agg} and {link}) q on true",
        f"select {v.keyed}, q.n from {v} cross join {r} join lateral "
        f"({agg} and {link}) q on q.n > 0",
        f"select {v.keyed}, (select sum(q.n) from {r}, lateral ({agg} and {link}) q) s "
        f"from {v}",
        f"select {v.shown} from {v} where exists (select from {r}, lateral "
        f"({agg} and {link}) q where q.n = 0)",
    )


def folded(g: Grammar) -> str:
    """Values that are equal and read otherwise: links, keys and groups of citext."""
    p, q = g.roles(2, kinds.TEXT)
    i, slot = q.renamed("i"), g.pick("a", "b", "c")
    one, two = p.col(), q.columns[slot]
    link, above = _alike(g, p, q, one, two), _alike(g, p, i, one, i.columns[slot])
    join = g.pick("join", "left join")
    texts = ", ".join(f"{key}::text" for key in q.key)
    inner = g.pick(
        f"select count(*) from {q} where {link}",
        f"select string_agg({q.id}::text, ',' order by {texts}) from {q} where {link}",
        f"select {two} from {q} where {link} order by {texts} limit 1",
        f"select count(*) from (select distinct {two} d from {q} where {link}) i",
    )
    number = f"row_number() over (partition by {two} order by {texts}) n"
    return g.pick(
        f"select {p.keyed}, {q.a} qa, {q.b} qb from {p} {join} {q} on {link}",
        f"select {p.keyed}, ({inner}) n from {p}",
        f"select {p.shown} from {p} where {one} in (select {two} from {q})",
        f"select {one} k, count(*) n from {p} {join} {q} on {link} group by {one}",
        f"select {one}::text k, count(*) n from {p} group by {one}::text",
        f"select lower({one}::text) k, count(*) n from {p} group by lower({one}::text)",
        f"select {p.keyed}, i.n from {p} {join} (select {two} {slot}, count(*) n "
        f"from {q} group by {two}) i on i.{slot} = {one}",
        f"select {p.keyed}, i.b ib from {p} {join} (select distinct on ({two}) {q.all} "
        f"from {q} order by {two}, {texts}) i on {above}",
        f"select {p.keyed}, i.n from {p} {join} (select {q.all}, {number} from {q}) i "
        f"on {above}",
        f"select {p.keyed}, (select count(*) from (select {p.all} from {p} union "
        f"select {q.all} from {q}) i where {above}) n from {p}",
    )


def _alike(g: Grammar, p: Named, q: Named, one: Term, two: Term) -> str:
    """Conditions that tell equal values apart, and others."""
    return g.pick(
        f"{two} = {one}",
        f"{two} = {one}",
        f"{q.id} = {one}",
        f"{two} = {p.id}",
        f"{two}::text = {one}::text",
        f"lower({two}::text) = lower({one}::text)",
        f"{two} is not distinct from {one}",
    )


def composed(g: Grammar) -> str:
    """Links by several columns at once, by rows, and along whole keys."""
    r, u, v = g.roles(3)
    one, two = u.col(), u.col()
    both = g.pick(
        f"({one}, {two}) = ({r.col()}, {r.col()})",
        f"{one} = {r.col()} and {two} = {r.col()}",
        f"{one} = {r.col()} and {two} is not distinct from {r.col()}",
        f"({one}, {two}) in (select {v.col()}, {v.col()} from {v})",
        f"row({one}, {two}) is not distinct from row({r.col()}, {r.col()})",
        f"({one}, {two}) >= ({r.col()}, {r.col()})",
        f"({one}, {two}) = any (select {v.col()}, {v.col()} from {v} "
        f"where {v.col()} = {r.col()})",
    )
    again = Role(g.dice, "s", r.table, r.family)
    pairs = list(zip(again.key, r.key, strict=True))
    whole = " and ".join(f"{a} = {b}" for a, b in pairs)
    above = " and ".join(f"q{a[1:]} = {b}" for a, b in pairs)
    part = f"{again.key[0]} = {r.key[0]}"
    join = g.pick("join", "left join")
    return g.pick(
        f"select {r.keyed}, {u.a} ua from {r} {join} {u} on {both}",
        f"select {r.keyed}, (select count(*) from {u} where {both}) n from {r}",
        f"select {r.shown} from {r} where exists (select from {u} where {both})",
        f"select {u.keyed}, {again.a} sa from {u} join {r} on {u.col()} = {r.col()} "
        f"{join} {again} on {whole}",
        f"select {again.keyed}, count(*) n from {again} {join} {r} on {whole} "
        f"{g.pick('join', 'left join')} {u} on {u.col()} = {r.col()} "
        f"group by {again.order}",
        f"select {r.keyed}, (select count(*) from {again} where {part}) n from {r}",
        f"select {r.keyed}, q.n from {r} {join} (select {again.order}, "
        f"row_number() over (partition by {again.key[0]} order by {again.order}) n "
        f"from {again}) q on {above}",
    )


FAMILIES: tuple[Callable[[Grammar], str], ...] = (
    limits,
    preserved,
    non_strict,
    either,
    groups,
    circles,
    twice,
    displaced,
    unions,
    one_row,
    folded,
    composed,
)
