"""Families of queries around one trap each, which a general grammar seldom meets."""

from __future__ import annotations

from collections.abc import Callable

from tests.property.derive.grammar import Grammar


def limits(g: Grammar) -> str:
    """Rows displaced by others, beneath and above links."""
    where = g.pick(
        f"u.{g.col()} = r.{g.col()}",
        f"u.{g.col()} = m.{g.col()}",
        f"u.{g.col()} = m.{g.col()} and u.{g.col()} = r.{g.col()}",
        f"u.{g.col()} > 1",
    )
    inner = g.pick(
        f"select u.a, u.b, u.c from u where {where} order by u.{g.col()}, u.id limit 1",
        f"select distinct on (u.{g.col()}) u.a, u.b, u.c from u where {where} "
        "order by {d}, u.c, u.id",
        f"select u.a, max(u.b) b, count(*) c from u where {where} group by u.a",
        f"select max(u.a) a, max(u.b) b, count(*) c from u where {where}",
        "select u.a, u.b, row_number() over "
        f"(partition by u.{g.col()} order by u.id) c "
        f"from u where {where}",
    )
    if "{d}" in inner:
        chosen = inner.split("distinct on (")[1].split(")")[0]
        inner = inner.format(d=chosen)
    join = g.pick("join", "left join")
    on = g.pick("true", f"l.{g.col()} = r.{g.col()}", f"l.{g.col()} = m.{g.col()}")
    middle = g.pick("join", "left join")
    key = g.pick("r.id k", "m.id k", "r.id k", "l.a k")
    tail = ""
    if g.chance(0.4):
        tail = f" {g.pick('join', 'left join')} w on w.{g.col()} = l.{g.col()}"
    group = g.pick("", "", f" group by l.{g.col()}", f" group by r.{g.col()}")
    if group:
        column = group.removeprefix(" group by ")
        return (
            f"select {column} as k, count(*) n, array_agg(r.id order by r.id) ids "
            "from r "
            f"{middle} v m on m.{g.col()} = r.{g.col()} "
            f"{join} lateral ({inner}) l on {on}{tail}{group}"
        )
    return (
        f"select {key}, l.a la, l.b lb, l.c lc from r "
        f"{middle} v m on m.{g.col()} = r.{g.col()} "
        f"{join} lateral ({inner}) l on {on}{tail}"
    )


def preserved(g: Grammar) -> str:
    """Conditions of outer joins that name the preserved side."""
    one, two = g.pick("left join", "right join", "join"), g.pick("left join", "join")
    inner = (
        f"from u {one} v on v.{g.col()} = u.{g.col()} and "
        + g.pick(f"v.{g.col()} = r.{g.col()}", f"u.{g.col()} = r.{g.col()}", "v.a = 1")
        + f" {two} w on w.{g.col()} = {g.pick('u', 'v', 'r')}.{g.col()}"
    )
    where = g.pick("", f" where u.{g.col()} = r.{g.col()}", f" where v.a = r.{g.col()}")
    form = g.pick("scalar", "lateral", "exists", "outer")
    if form == "scalar":
        return f"select r.id k, (select count(*) {inner}{where}) n from r"
    if form == "exists":
        return f"select r.id k, r.a from r where exists (select {inner}{where})"
    if form == "lateral":
        join = g.pick("join", "left join")
        return (
            f"select r.id k, q.x from r {join} lateral (select u.a x {inner}{where}) q "
            "on true"
        )
    return (
        f"select {g.pick('r.id', 'u.id')} k, u.a ua, v.b vb from r "
        f"{g.pick('left join', 'join', 'right join')} u on u.{g.col()} = r.{g.col()} "
        f"{g.pick('left join', 'join')} v on v.{g.col()} = u.{g.col()} "
        f"and r.{g.col()} = {g.pick('1', 'v.b')}"
    )


def non_strict(g: Grammar) -> str:
    """Links that hold for nulls too."""
    through = g.pick(
        f"coalesce(u.{g.col()}, 1)",
        f"coalesce(u.{g.col()}, r.{g.col()})",
        f"case when u.id is null then 1 else u.{g.col()} end",
        f"u.{g.col()}",
    )
    compare = g.pick("=", "=", "is not distinct from")
    first = g.pick("left join", "left join", "join")
    source = g.pick("u", "(select id, a, coalesce(b, 1) b, c from u) u")
    tail = g.pick("", "", f" where u.{g.col()} = 1", " where u.id is not null")
    return (
        f"select r.id k, u.a ua, t.b tb from r {first} {source} on u.{g.col()} = "
        f"r.{g.col()} {g.pick('left join', 'join')} v t on t.{g.col()} {compare} "
        f"{through}{tail}"
    )


def either(g: Grammar) -> str:
    """`or` between links, and in what tests them."""
    links = [f"u.{g.col()} = r.{g.col()}", f"u.{g.col()} = v.{g.col()}"]
    g.dice.shuffle(links)
    third = g.pick(
        f"v.{g.col()} = r.{g.col()}", f"u.{g.col()} = r.{g.col()}", "r.a = 1"
    )
    where = g.pick(
        f"{links[0]} or {links[1]}",
        f"({links[0]} or {third}) and {links[1]}",
        f"({links[0]} and {third}) or {links[1]}",
        f"{links[0]} or u.{g.col()} = r.{g.col()}",
        f"{links[0]} and ({links[1]} or u.a is null)",
    )
    form = g.pick("scalar", "exists", "join", "in")
    sources = g.pick("u, v", "u")
    if sources == "u":
        where = where.replace("v.", "r.")
    if form == "scalar":
        return f"select r.id k, (select count(*) from {sources} where {where}) n from r"
    if form == "exists":
        return (
            "select r.id k, r.a from r where exists "
            f"(select from {sources} where {where})"
        )
    if form == "in":
        no = g.pick("", "not ", "")
        return (
            f"select r.id k, r.a from r where r.{g.col()} {no}in "
            f"(select u.{g.col()} from "
            f"{sources} where {where}) {g.pick('', 'or r.b = 1', 'and r.b = 1')}"
        )
    return (
        f"select r.id k, u.a ua from r join {sources.replace(', ', ' cross join ')} "
        f"on {where}"
        if sources == "u"
        else f"select r.id k, u.a ua from r, {sources} where {where}"
    )


def groups(g: Grammar) -> str:
    """Keys out of groups, moved along equalities, and the null group."""
    one, two = g.pick("left join", "join"), g.pick("left join", "join", "right join")
    key = g.pick("r", "u", "v") + "." + g.pick("id", "a", "b")
    more = g.pick("", "", f", {key.split('.')[0]}.c")
    on = g.pick("", f" and u.{g.col()} = 1", f" and r.{g.col()} = 1")
    having = g.pick("", "", " having count(*) > 1")
    listed = f"{key} as k" + (f"{more} as k2" if more else "")
    where = g.pick("", "", f" where u.{g.col()} = 1", f" where r.{g.col()} is not null")
    return (
        f"select {listed}, count(*) n, array_agg(r.id order by r.id) ids from r "
        f"{one} u on u.{g.pick('id', 'a')} = r.{g.col()}{on} "
        f"{two} v on v.{g.pick('id', 'a')} = {g.pick('u', 'r')}.{g.col()}{where} "
        f"group by {key}{more}{having}"
    )


def circles(g: Grammar) -> str:
    """Occurrences with several ways to the key."""
    links = [
        f"u.{g.col()} = r.{g.col()}",
        f"v.{g.col()} = r.{g.col()}",
        f"u.{g.col()} = v.{g.col()}",
        f"w.{g.col()} = u.{g.col()}",
        f"w.{g.col()} = v.{g.col()}",
    ]
    g.dice.shuffle(links)
    where = " and ".join(links[: g.dice.randint(3, 5)])
    if g.chance(0.5):
        return f"select r.id k, u.a ua, v.b vb, w.c wc from r, u, v, w where {where}"
    return f"select r.id k, (select count(*) from u, v, w where {where}) n from r"


def twice(g: Grammar) -> str:
    """A CTE or a view that is referred to more than once."""
    body = g.pick(
        f"select * from u where {g.col()} = 1",
        "select u.id, u.a, v.b, u.c from u left join v on v.a = u.b",
        "select a, max(b) b, count(*) c, min(id) id from u group by a",
        "select id, a, b, c from u union all select id, a, b, c from v",
    )
    word = g.pick("", "materialized ", "not materialized ")
    return (
        f"with e as {word}({body}) select r.id k, x.b xb, "
        "(select array_agg(y.c order by y.c) from e y "
        f"where y.{g.col()} = r.{g.col()}) l "
        f"from r {g.pick('join', 'left join')} e x on x.a = r.{g.col()}"
        + g.pick("", f" where exists (select from e z where z.a = r.{g.col()})")
    )


def displaced(g: Grammar) -> str:
    """One row of a group or limit takes another's place, and conditions above it."""
    column, other = g.col(), g.col()
    where = f"where u.{column} = r.{g.col()}"
    inner = g.pick(
        f"select u.a, u.b, u.c from u {where} order by u.{other}, u.id limit 1",
        f"select max(u.a) a, max(u.b) b, count(*) c from u {where}",
        f"select u.{other} a, max(u.b) b, count(*) c from u {where} group by u.{other}",
        f"select distinct on (u.{other}) u.{other} a, u.id b, u.c from u {where} "
        f"order by u.{other}, u.c, u.id",
        f"select u.a, u.b, row_number() over (partition by u.{other} order by u.id) c "
        f"from u {where}",
    )
    above = f"l.{g.pick('a', 'b')} = r.{g.col()}"
    form = g.pick("on", "where", "group", "exists", "always")
    if form == "exists":
        free = inner.replace(where, "")
        return (
            f"select r.id k, r.a from r where r.{g.col()} in "
            f"(select l.b from ({free}) l)"
        )
    if form == "always":
        return (
            f"select v.id k, q.n from v join r on r.a = v.{column} join lateral "
            f"(select count(*) n from u where u.b = v.{other}) q on true"
        )
    if form == "group":
        return (
            f"select l.{g.pick('a', 'b')} as k, count(*) n, "
            "array_agg(r.id order by r.id) i"
            f" from r join lateral ({inner}) l on true group by 1"
        )
    if form == "on":
        return (
            f"select r.id k, l.a la, l.c lc from r join lateral ({inner}) l on {above}"
        )
    return f"select r.id k, l.a la from r, lateral ({inner}) l where {above}"


def unions(g: Grammar) -> str:
    """Links that lead into the sides of a union."""
    word = g.pick("union all", "union", "except", "intersect")
    body = (
        f"select {g.col()} x, {g.col()} y from u {word} "
        f"select {g.col()}, {g.col()} from v"
    )
    join = g.pick("join", "left join")
    tail = g.pick(
        "",
        f" join w on w.{g.col()} = q.y",
        f" left join w on w.a = q.{g.pick('x', 'y')}",
    )
    return g.pick(
        f"select r.id k, q.y from r {join} ({body}) q on q.x = r.{g.col()}{tail}",
        f"select r.id k, (select count(*) from ({body}) q{tail} "
        f"where q.x = r.{g.col()}) n from r",
        f"select r.id k, r.a from r where exists (select from ({body}) q{tail} "
        f"where q.x = r.{g.col()})",
        f"select w.id k, q.y from w join r on r.{g.col()} = w.{g.col()} "
        f"join ({body}) q on q.x = r.{g.col()}",
    )


def one_row(g: Grammar) -> str:
    """An aggregate without `group by` gives its row whatever its conditions say."""
    agg = f"select count(*) n, max(u.a) m from u where u.{g.col()} = r.{g.col()}"
    link = f"u.{g.col()} = v.{g.col()}"
    return g.pick(
        f"select v.id k, q.n from v join r on r.{g.col()} = v.{g.col()} "
        f"join lateral ({agg} and {link}) q on true",
        f"select v.id k, q.n from v cross join r join lateral ({agg} and {link}) q on "
        "q.n > 0",
        f"select v.id k, (select sum(q.n) from r, lateral ({agg} and {link}) q) s "
        "from v",
        f"select v.id k, v.a from v where exists (select from r, lateral "
        f"({agg} and {link}) q where q.n = 0)",
    )


def folded(g: Grammar) -> str:
    """Values that are equal and read otherwise: links, keys and groups of citext."""
    one, two = g.pick("x", "y"), g.pick("x", "y")
    p, q = f"p.{g.col()}", f"q.{g.col()}"
    link = g.pick(
        f"{q} = {p}",
        f"{q} = {p}",
        f"q.id = {p}",
        f"{q} = p.id",
        f"{q}::text = {p}::text",
        f"lower({q}) = lower({p})",
        f"{q} is not distinct from {p}",
    )
    join = g.pick("join", "left join")
    inner = g.pick(
        f"select count(*) from {two} q where {link}",
        f"select string_agg(q.id, ',' order by q.id::text) from {two} q where {link}",
        f"select {q} from {two} q where {link} order by q.id::text limit 1",
        f"select count(*) from (select distinct {q} d from {two} q where {link}) i",
    )
    return g.pick(
        f"select p.id k, q.a qa, q.b qb from {one} p {join} {two} q on {link}",
        f"select p.id k, ({inner}) n from {one} p",
        f"select p.id k, p.a from {one} p where {p} in (select {q} from {two} q)",
        f"select p.id k, a, q.c qc from {one} p {join} {two} q using (a)",
        f"select id k, a, n from {one} natural {join} "
        f"(select a, count(*) n from {two} group by a) q",
        f"select {p} k, count(*) n from {one} p {join} {two} q on {link} group by {p}",
        f"select {p}::text k, count(*) n from {one} p group by {p}::text",
        f"select lower({p}) k, count(*) n from {one} p group by lower({p})",
        f"select p.id k, q.n from {one} p {join} (select {q} v, count(*) n "
        f"from {two} q group by {q}) q on q.v = {p}",
        f"select p.id k, q.b qb from {one} p {join} (select distinct on ({q}) * from "
        f"{two} q order by {q}, q.id::text) q on {link}",
        f"select p.id k, q.n from {one} p {join} (select q.*, row_number() over "
        f"(partition by {q} order by q.id::text) n from {two} q) q on {link}",
        "select p.id k, (select count(*) from (select a, b, c, id from x union "
        f"select a, b, c, id from y) q where {link}) n from {one} p",
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
)
