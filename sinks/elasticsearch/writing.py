"""Writing: one call of the contract as one bulk request, or several where it must.

The one thing to know: this runs in a thread and blocks. A request that is refused as a
whole is halved until the document at fault stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.sink import Halt, Operation, Rejection, Report, Transient
from sinks.elasticsearch.bulk import FILTER, Batch, encode, never_fits, tally
from sinks.elasticsearch.client import Answer, Client
from sinks.elasticsearch.places import Place

SHARD_WAIT = "20s"
"""How long the server waits for a shard before it answers 503 for an item."""
PROBE_KEY = "pgbridge:probe"
_TOO_LARGE = "the document is larger than the server takes in one request"


class Writing:
    """One call of `write`."""

    def __init__(
        self, client: Client, place: Place, operations: Sequence[Operation]
    ) -> None:
        self._client, self._place, self._operations = client, place, operations
        self._path = (
            f"/{place.alias}/_bulk?require_alias=true&timeout={SHARD_WAIT}"
            f"&filter_path={FILTER}"
        )
        self._report = Report()
        self._refused: dict[int, str] = {}
        self._taken = False

    def run(self) -> Report:
        """An outcome for each operation. Transient, Halt: as in the contract."""
        pending: list[Sequence[int]] = [range(len(self._operations))]
        while pending:
            indexes = pending.pop()
            answer = self._send([self._operations[index] for index in indexes])
            too_large = answer.status == 413 or (
                answer.status == 429 and never_fits(answer.error[1])
            )
            if answer.ok:
                indexes = self._take(answer, indexes)
                too_large = bool(indexes)
            elif answer.status != 400 and not too_large:
                raise self._client.failure(answer, "a bulk request", quote=False)
            if not indexes:
                continue
            if len(indexes) > 1:
                middle = len(indexes) // 2
                pending += [indexes[middle:], indexes[:middle]]
            elif too_large:
                self._refuse(indexes[0], _TOO_LARGE)
            else:
                self._refused[indexes[0]] = answer.error[0] or "bad request"
        self._settle_refused()
        if self._report.why:
            self._report.why = f"{self._place.index}: {self._report.why}"
        return self._report

    def _send(self, operations: Sequence[Operation]) -> Answer:
        body = encode(operations)
        try:
            return self._client.send("POST", self._path, body, lines=True)
        except Transient:
            # A server that finds a request too large closes the connection; its
            # answer is mostly lost, so the limit is asked for.
            if len(body) > self._client.body_bytes_max():
                return Answer(413, b"")
            raise

    def _take(self, answer: Answer, indexes: Sequence[int]) -> list[int]:
        """Count the outcomes; what has none yet, being too much at once."""
        self._taken = True
        batch = Batch(
            [self._operations[index] for index in indexes],
            indexes,
            self._place.highest,
            self._place.plan.fields,
        )
        return tally(answer.body, batch, self._report)

    def _refuse(self, index: int, reason: str) -> None:
        key = self._operations[index].key
        self._report.rejections[index] = Rejection(key, reason)

    def _settle_refused(self) -> None:
        """Documents that made their request fail are at fault, if a request without
        one does not fail; else it is all requests that do."""
        if not self._refused:
            return
        if not self._taken:
            probe = Operation(PROBE_KEY, (PROBE_KEY,), 0, None)
            answer = self._send([probe])
            if not answer.ok:
                failure = self._client.failure(answer, "a bulk request", quote=False)
                raise (
                    failure
                    if isinstance(failure, Transient)
                    else Halt(
                        failure.message,
                        hint="every bulk request is refused: see whether something"
                        " stands between the bridge and the server",
                    )
                )
        for index, reason in self._refused.items():
            self._refuse(index, reason)
