"""Requests sent and answered: order, numbers, and what the answers tell of losses.

The one thing to know: every answer holds the mark that the server showed before the
request. It is compared at once with what had been answered, so that no request can
cover up that the ones before it were lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from bridge.sink import Generation, Operation, Rejection, Report, Transient
from sinks.redis.failures import code_of, is_function_missing
from sinks.redis.function import Loaded, load, load_request
from sinks.redis.journal import Journal
from sinks.redis.layout import lost_key, mark_key, number_of
from sinks.redis.line import Line
from sinks.redis.losses import Losses
from sinks.redis.request import DOCUMENT_BYTES_MAX, Call, Encoder, chunks
from sinks.redis.server import Server
from sinks.redis.template import RESERVED, Naming, is_reserved

ATTEMPTS = 3
"""Of one call that found the function or the generation missing."""

EVERYTHING = "the server lost its mark, or more than is remembered (it had answered {})"
COVERED = "the server noted a loss in a request whose answer did not arrive"
WRONG_TYPE = "a key of another type, which is not the bridge's, has the value's name"
TOO_LONG = "the document is longer than the 512 MiB that Redis takes"
OWN_NAME = f"its name begins with `{RESERVED}`, where the bridge keeps its own"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call's answer: how many were superseded, and the indexes refused."""

    superseded: int
    refused: Sequence[int]


class Writer:
    """All writes of one sink, over one line."""

    def __init__(
        self, sink: str, server: Server, losses: Losses, *, functions: bool = True
    ) -> None:
        self.journal = Journal()
        self._mark_key, self._lost_key = mark_key(sink), lost_key(sink)
        self._losses = losses
        self._functions = functions
        self._loaded: Loaded | None = None
        self.started = False
        self.expected = 0
        """So much earlier processes have been answered, at least."""
        self._sort = server.sort
        self._line = Line(server.connection, self._greet, server.sort)

    async def close(self) -> None:
        """End the connection; the next write makes a new one."""
        await self._line.close()

    async def write(
        self,
        generation: Generation,
        encoder: Encoder,
        operations: Sequence[Operation],
        restore: Callable[[], Awaitable[None]],
    ) -> Report:
        """Apply the operations, in calls that the server carries out one by one.

        `restore` makes the generation's bookkeeping again after the server lost it.
        """
        report = Report()
        fitting = _without_refused(operations, encoder.naming, report)
        runs = [operations[start:end] for start, end in chunks(fitting)]
        if len(fitting) < len(operations):
            runs = [fitting[start:end] for start, end in chunks(fitting)]
        # The coroutines reach the line in this order, and it sends in this order.
        outcomes = await asyncio.gather(
            *(self._call(generation, encoder, run, restore) for run in runs)
        )
        index_of = {operation.key: at for at, operation in enumerate(operations)}
        for run, outcome in zip(runs, outcomes, strict=True):
            report.superseded += outcome.superseded
            report.kept += len(run) - outcome.superseded - len(outcome.refused)
            for refused in outcome.refused:
                key = run[refused].key
                report.rejections[index_of[key]] = Rejection(key, WRONG_TYPE)
        return report

    async def _call(
        self,
        generation: Generation,
        encoder: Encoder,
        operations: Sequence[Operation],
        restore: Callable[[], Awaitable[None]],
    ) -> Outcome:
        call = encoder.call(operations)
        keys = [operation.parts for operation in operations]
        for _ in range(ATTEMPTS):
            numbered: list[int] = []  # filled when it is sent
            make = partial(self._packed, call, numbered)
            answered = partial(self._answered, numbered, generation, keys)
            reply = await (await self._line.send(make, answered))
            if isinstance(reply, ResponseError):
                await self._failed(reply)
            elif int(reply[1]) < 0:
                await restore()
            else:
                return Outcome(int(reply[1]), reply[2])
        raise Transient("the server loses what the bridge loads into it")

    def _packed(self, call: Call, numbered: list[int]) -> bytes:
        """The request, under a number that is taken in the order of sending."""
        assert self._loaded is not None, "a line greets before it sends"
        numbered.append(self.journal.number())
        loaded, mark = self._loaded, self.journal.mark
        return call.packed(loaded.command, loaded.name, numbered[0], mark)

    def _answered(
        self,
        numbered: Sequence[int],
        generation: Generation,
        keys: Sequence[tuple[str | None, ...]],
        reply: Any,
    ) -> None:
        """In the order of the requests, before anything else is made of the answer."""
        if isinstance(reply, ResponseError):
            return
        self.compare(number_of(reply[0]), numbered[0])
        if int(reply[1]) >= 0:
            self.journal.kept(numbered[0], generation, keys)

    def compare(self, mark: int | None, number: int = 0) -> None:
        """A mark that the server shows: is anything missing that was answered for?"""
        expected = self.journal.mark
        found = self.journal.found(mark, number)
        if found is None:
            self._losses.add_all(EVERYTHING.format(expected))
        else:
            self._losses.add(found)

    def looked(self, mark: int | None) -> None:
        """A mark that the server shows while nothing is asked of it: the first one is
        where numbers go on from, and is behind what earlier processes knew, or not."""
        if not self.started:
            self.journal.begin(max(mark or 0, self.expected))
            self.started = True
        if self.journal.mark > (mark or 0):
            self.compare(mark)

    def noted(self, note: bytes | None) -> None:
        """The server's note of a loss: has it been told already?"""
        # What is no number is nobody's request: it tells of a loss all the same.
        news = note is not None and self.journal.noted(number_of(note))
        if self._losses.begin(noted=note is not None) and news:
            self._losses.add_all(COVERED)

    async def _failed(self, error: ResponseError) -> None:
        """Returns when the call can be made again at once."""
        if not is_function_missing(error):
            if code_of(error) == "READONLY":
                await self._line.close()  # the address may lead to another server now
            raise self._sort(error) from None
        assert self._loaded is not None, "something was called"
        packed = load_request(self._loaded)
        await (await self._line.send(lambda: packed, lambda _: None))

    async def _greet(self, connection: AbstractConnection) -> None:
        """Every new connection: the function is there, and nothing was lost."""
        self._loaded = await load(connection, functions=self._functions)
        await connection.send_command("MGET", self._mark_key, self._lost_key)
        found, noted = await connection.read_response(disable_decoding=True)
        self.noted(noted)
        self.looked(number_of(found))
        if not self._losses.none:  # before a request sets the mark that tells it
            await connection.send_command("SET", self._lost_key, "0", "NX")
            await connection.read_response()


def _without_refused(
    operations: Sequence[Operation], naming: Naming, report: Report
) -> Sequence[Operation]:
    """The operations that can be carried out; the others are rejected in the report."""
    fitting: list[Operation] = []
    may_be_own = naming.may_be_reserved
    for index, operation in enumerate(operations):
        if len(operation.document or b"") > DOCUMENT_BYTES_MAX:
            report.rejections[index] = Rejection(operation.key, TOO_LONG)
        elif may_be_own and is_reserved(naming.of_parts(operation.parts)):
            report.rejections[index] = Rejection(operation.key, OWN_NAME)
        else:
            fitting.append(operation)
    return operations if len(fitting) == len(operations) else fitting
