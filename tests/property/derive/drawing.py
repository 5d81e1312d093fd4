"""Random schemas: tables with all sorts of keys, types, references and partitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.property.derive import kinds
from tests.property.derive.grammar import Grammar
from tests.property.derive.kinds import EXTENSIONS, KINDS, Kind
from tests.property.derive.schema import Column, Reference, Schema, Table, View, quoted
from tests.property.derive.terms import Scope

NAMES = ("r", "u", "v", "w", "Order", "two words", "select", 'a"b', "naïve", "50%")
COLUMNS = (
    *("id", "a", "b", "c", "d", "e", "f", "n", "k", "ref", "parent"),
    *("A", "two words", "order", 'q"t', "ünï", "100%", "doc"),
)
SCHEMAS = ("public", "public", "public", "other", "Other One")
ACTIONS = (
    "",
    " on delete cascade",
    " on delete cascade on update cascade",
    " on update cascade",
    " on delete set null",
    " on delete set null on update cascade",
    " on delete set null on update set null",
)


def drawn_schema(dice: Random) -> Schema:
    """The tables and views of one seed."""
    extensions = dice.choice(("public", "public", "public", "ext"))
    schema = Schema(tuple(_Drawing(dice).tables()), extensions=extensions)
    for number in range(dice.choice((0, 1, 2, 3))):
        body, columns = Grammar(dice, schema).sub_select(Scope(), 1, lateral=False)
        view = View(f"View {number}", columns, body)
        schema = replace(schema, views=(*schema.views, view))
    return schema


class _Drawing:
    def __init__(self, dice: Random) -> None:
        self.dice = dice
        families = sorted({k.family.name for k in KINDS if k.key})
        # Most columns are of two families, so that tables can be linked.
        usual = ["number", "text", *dice.sample(families, k=3)]
        self.usual = dice.sample(usual, k=2)

    def tables(self) -> list[Table]:
        dice = self.dice
        made: list[Table] = []
        for name in dice.sample(NAMES, k=dice.randint(2, 6)):
            made.append(self.table(name, made))
        return made

    def kind(self, allowed: Callable[[Kind], bool] = lambda _: True) -> Kind:
        """One of the usual families, more often than not."""
        common = [k for k in KINDS if k.family.name in self.usual and allowed(k)]
        if common and self.dice.random() < 0.75:
            return self.dice.choice(common)
        return self.dice.choice([k for k in KINDS if allowed(k)])

    def table(self, name: str, before: list[Table]) -> Table:
        dice = self.dice
        names = list(COLUMNS)
        dice.shuffle(names)
        key = [
            Column(names.pop(), self.kind(lambda k: k.key), not_null=True)
            for _ in range(dice.choice((1, 1, 2, 2, 3)))
        ]
        others: list[Column] = []
        references = []
        for parent in before[-2:]:
            if dice.random() < 0.6:
                inside = len(key) < 3 and dice.random() < 0.2
                reference, key, added = self.reference(
                    parent, key, names, inside=inside
                )
                references.append(reference)
                others += added
        others += [
            Column(names.pop(), self.kind(), not_null=dice.random() < 0.2)
            for _ in range(dice.randint(1, 3))
        ]
        primary = tuple(dice.sample([c.name for c in key], k=len(key)))
        keys = [primary]
        columns = [*key, *others]
        dice.shuffle(columns)
        by, bounds = self.partitions(key) if dice.random() < 0.25 else ("", ())
        if not by and dice.random() < 0.3:
            more = [c.name for c in columns if c.not_null and c.kind.key]
            extra = tuple(dice.sample(more, k=min(len(more), dice.choice((1, 2)))))
            if extra and set(extra) != set(primary):
                keys.append(extra)
        if dice.random() < 0.3:
            columns += self.generated(columns, names.pop())
        made = Table(
            name,
            tuple(columns),
            tuple(keys),
            primary=columns[-1].generated != "" or dice.random() < 0.85,
            schema=dice.choice(SCHEMAS),
            references=tuple(r for r in references if r is not None),
            partitioned=by,
            partitions=bounds,
        )
        if dice.random() < 0.25:  # a tree
            own, _, added = self.reference(made, [], names, inside=False)
            made = replace(
                made,
                columns=(*made.columns, *added),
                references=(*made.references, *([own] if own else [])),
            )
        return made

    def reference(
        self, parent: Table, key: list[Column], names: list[str], *, inside: bool
    ) -> tuple[Reference | None, list[Column], list[Column]]:
        """Columns of the parent's key, some of them in the key, with or without the
        constraint."""
        dice = self.dice
        target = dice.choice(parent.keys)
        made = [
            Column(
                names.pop(),
                parent.column(name).kind,
                not_null=inside or dice.random() < 0.15,
            )
            for name in target
        ]
        reference = None
        if dice.random() < 0.7:
            reference = Reference(
                tuple(c.name for c in made), str(parent), target, dice.choice(ACTIONS)
            )
        if inside:
            return reference, [*key, *made][:3], [*key, *made][3:]
        return reference, key, made

    def partitions(self, key: list[Column]) -> tuple[str, tuple[str, ...]]:
        """By one of the key's columns."""
        column = self.dice.choice(key)
        name = quoted(column.name)
        values = list(dict.fromkeys(column.kind.values))
        ways = ["range", "list", "hash"]
        if column.kind.family is kinds.PATHS:
            ways.remove("hash")  # it has none before Postgres 17
        match self.dice.choice(ways):
            case "range":
                split = self.dice.choice(values[1:])
                return f"range ({name})", (
                    f"for values from (minvalue) to ({split})",
                    f"for values from ({split}) to (maxvalue)",
                )
            case "list":
                return f"list ({name})", (f"for values in ({values[0]})", "default")
        return f"hash ({name})", tuple(
            f"for values with (modulus 2, remainder {n})" for n in range(2)
        )

    def generated(self, columns: list[Column], name: str) -> list[Column]:
        """A column that is made of another one."""
        dice = self.dice
        of = dice.choice(columns)
        column = quoted(of.name)
        if of.kind.family is kinds.NUMBER:
            kind, made = kinds.NUMERIC, f"coalesce({column}, 0) + 1"
        elif of.kind.family is kinds.TEXT:
            kind, made = kinds.PLAIN, f"upper({column}::text)"
        else:
            kind, made = kinds.Kind("bool", kinds.BOOL, ()), f"{column} is null"
        own = of.kind.name in (
            "whole",
            "code",
            "folded",
            "citext",
            "level",
            *EXTENSIONS,
        )
        word = "stored" if own else dice.choice(("stored", "virtual"))
        return [Column(name, kind, generated=f"({made}) {word}")]
