"""Opening the stream of one life of the daemon, and noticing what came between two.

The one thing to know: between two connections the server may have crashed, so that
what reads have seen is gone, or may have been set back to an earlier state, so that
what the sinks hold is of a log which is no more. Both are noticed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from bridge.backfill.patience import patiently
from bridge.capture.connection import StreamSettings
from bridge.capture.failures import HistoryChanged, SlotActive
from bridge.capture.identity import ServerIdentity
from bridge.capture.slot import free_slot
from bridge.capture.thread import CaptureLimits, CaptureThread
from bridge.config import Config
from bridge.control.session import session
from bridge.decode.transactions import DecodeLimits, TransactionAssembler
from bridge.derive.digest import Batch
from bridge.live_digest import LiveDigest
from bridge.pipeline import Pipeline
from bridge.standing import Standing
from bridge.store import Store
from bridge.store.rows import ServerLife, SourceRow


class Streams:
    """The connections that one life streams on, one after another."""

    def __init__(
        self,
        config: Config,
        history: SourceRow,
        store: Store,
        standing: Standing,
        leased: Callable[[], bool],
    ) -> None:
        """`history` is the one that is read; `leased` tells whether this is still the
        one daemon that may read it."""
        self._config = config
        self._store = store
        self._standing = standing
        self._leased = leased
        self._expected = ServerIdentity(
            system_identifier=int(history.system_identifier),
            timeline=history.timeline,
            in_recovery=False,
            version=0,
        )
        self._server: ServerLife | None = None

    async def look_back(self, pipeline: Pipeline) -> bool:
        """Before the first: whether the server has crashed since an earlier life read
        from it, which has not told this one what that was."""
        settled = await patiently(self._store.settled_server)
        self._server = await patiently(self._store.server)
        if settled != self._server:
            pipeline.doubt.suspect = True
        return settled is not None and settled.recovered != self._server.recovered

    async def settled(self) -> None:
        """Nothing that was read from the server is doubtful any more."""
        assert self._server is not None
        await patiently(partial(self._store.settle_server, self._server))

    async def open(
        self, digest: LiveDigest, pipeline: Pipeline
    ) -> tuple[CaptureThread[Iterable[Batch]], int]:
        """A stream, and where its slot stands. Transient; HistoryChanged, Halt."""
        config, limits = self._config, self._config.limits
        capture: CaptureThread[Iterable[Batch]] = CaptureThread(
            StreamSettings(
                dsn=config.source.dsn,
                slot=config.source.slot,
                publication=config.source.publication,
                connect_timeout_s=limits.connect_timeout_s,
                expected=self._expected,
            ),
            TransactionAssembler(
                keep=digest.keep,
                describe=digest.describe,
                limits=DecodeLimits(transaction_bytes_max=limits.transaction_bytes_max),
            ),
            digest,
            CaptureLimits(queue_count_max=limits.queue_batches_max),
        )
        capture.start()
        try:
            opening = await capture.opened()
            await self._suspect_restart(pipeline)
        except BaseException as error:
            await capture.close()
            if isinstance(error, SlotActive):
                await self._free_slot()
            raise
        digest.start(opening.confirmed_lsn)
        return capture, opening.confirmed_lsn

    async def _suspect_restart(self, pipeline: Pipeline) -> None:
        """Notice that the server was started since it was read from: what was read
        from it may be gone, and more."""
        now = await self._store.server()
        if now == self._server:
            return
        reason = await self._standing.missing_log(pipeline.ledger.wal_end)
        if reason:
            await self._store.doubt(reason)
            raise HistoryChanged(reason, hint="the next look at it says what goes on")
        self._server = now
        pipeline.doubt.suspect = True

    async def _free_slot(self) -> None:
        """Whoever streams from the slot has lost the lease, and may be frozen or cut
        off, which the server alone would take a minute to notice."""
        if self._leased():
            async with session(self._config.source.dsn) as connection:
                await free_slot(connection, self._config.source.slot)
