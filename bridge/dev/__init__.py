"""Local servers from packages: no containers needed, nothing left behind.

    place = open_place()                      # the cache directory; who runs servers
    server = PostgresServer(place).start()    # also ValkeyServer, ElasticsearchServer
    server.dsn                                # .url for the other two
    server.stop(); server.kill(); server.restart(); server.start()
    server.close(); place.close()             # data and ports are given back

All three have `start`, `stop`, `kill` (SIGKILL to all of it), `restart`, `close`,
`running`, `pid`, `port` and `log`, and block: in a coroutine use `asyncio.to_thread`.

    PostgresServer(place, version=15, settings={"fsync": "on"})
        .dsn  .dsn_of(database)  .bin (initdb, pg_recvlogical, …)  .pgdata
        .stop("smart" | "fast" | "immediate")  .restart(mode)
        .execute(sql, database)  .alter_system(synchronous_standby_names="nosuch")
    PostgresServer(place, standby_of=primary)    .promote()
    ValkeyServer(place, options=("--appendonly", "yes"), replica_of=primary)
        .url  .url_of(database_number)  .pause()  .resume()
    ElasticsearchServer(place, version="8.19.0", heap="1g", fast_start=False)
        .url

`servers.py` starts all three at once; `detached.py` is `pgbridge dev up` and `down`.
The one thing to know: servers die with the process that started them (`keeper.py`).
"""

from bridge.dev.elasticsearch import ElasticsearchServer
from bridge.dev.place import Place, open_place
from bridge.dev.postgres import PostgresServer
from bridge.dev.valkey import ValkeyServer

__all__ = [
    "ElasticsearchServer",
    "Place",
    "PostgresServer",
    "ValkeyServer",
    "open_place",
]
