"""One connection on which requests are answered in the order in which they were sent.

The one thing to know: a request that was sent and not answered when the connection
ends has an unknown outcome. Its caller learns `Transient` and sends it again, which
changes nothing if it had been carried out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from bridge.sink import Halt, Transient

Answer: TypeAlias = "asyncio.Future[Any]"
_Pending: TypeAlias = tuple[Answer, Callable[[Any], None]]


class Line:
    """Connects when it is first needed, and again after it broke.

    `greet` is run on every new connection before anything else is sent on it.
    """

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        greet: Callable[[AbstractConnection], Awaitable[None]],
        sort: Callable[[Exception], Transient | Halt],
    ) -> None:
        self._make = make
        self._greet = greet
        self._sort = sort
        self._connection: AbstractConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()
        self._answers: deque[_Pending] = deque()
        self._sent = asyncio.Event()

    async def send(
        self, make: Callable[[], bytes], answered: Callable[[Any], None]
    ) -> Answer:
        """Send what `make` gives, called in the order of sending.

        The future holds what the server answers, a `ResponseError` among its results,
        or raises `Transient`. `answered` is called with each answer, in order, before
        any later one is read: also when nobody waits for the future any more.
        """
        async with self._sending:
            connection = await self._connected()
            answer: Answer = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_retrieved)
            self._answers.append((answer, answered))
            try:
                await connection.send_packed_command(make(), check_health=False)
            except BaseException as error:
                await self._break(connection)
                if isinstance(error, RedisError | OSError):
                    raise self._sort(error) from None
                raise
            self._sent.set()
            return answer

    async def close(self) -> None:
        """End the connection; requests under way raise `Transient`."""
        if self._connection:
            await self._break(self._connection)

    async def _connected(self) -> AbstractConnection:
        if self._connection and not self._connection.is_connected:
            await self._break(self._connection)
        if self._connection is None:
            connection = self._make()
            try:
                await connection.connect()  # type: ignore[no-untyped-call]
                await self._greet(connection)
            except (RedisError, OSError) as error:
                await connection.disconnect(nowait=True)
                raise self._sort(error) from None
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            self._connection = connection
            self._sent = asyncio.Event()
            self._answers = deque()
            self._reader = asyncio.create_task(
                self._read(connection, self._answers, self._sent)
            )
        return self._connection

    async def _read(
        self,
        connection: AbstractConnection,
        answers: deque[_Pending],
        sent: asyncio.Event,
    ) -> None:
        """Gives each answer to the oldest request that has none."""
        try:
            while True:
                while not answers:
                    sent.clear()
                    await sent.wait()
                reply = await _reply(connection)
                answer, answered = answers.popleft()
                answered(reply)
                if not answer.done():
                    answer.set_result(reply)
        except (RedisError, OSError):
            pass  # everyone who waits is told below
        finally:
            if self._connection is connection:
                self._connection = None  # nobody may wait on it from here on
            _fail(answers)
            await connection.disconnect(nowait=True)

    async def _break(self, connection: AbstractConnection) -> None:
        reader, self._reader = self._reader, None
        if self._connection is connection:
            self._connection = None
            _fail(self._answers)
        if reader and reader is not asyncio.current_task():
            reader.cancel()
        await connection.disconnect(nowait=True)


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(disconnect_on_error=False)
    except ResponseError as error:
        return error


def _fail(answers: deque[_Pending]) -> None:
    while answers:
        answer, _ = answers.popleft()
        if not answer.done():
            answer.set_exception(
                Transient("the connection to the Redis server was lost")
            )


def _retrieved(answer: Answer) -> None:
    """A caller that was cancelled does not ask; asyncio would complain of it."""
    if not answer.cancelled():
        answer.exception()
