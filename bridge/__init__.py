"""pgbridge: Elasticsearch indexes and Redis caches that follow Postgres exactly.

           log                    keys              documents             batches
 Postgres ─────▶ capture ▶ decode ─────▶ derive ────────────▶ fan out ─┬─▶ lane ▶ sink
     ▲                                     ▲  │ gated read             ├─▶ lane ▶ sink
     │                                     │  ▼                        └─ …      │
     │                        backfill ────┘ Postgres                            │ kept
     └────────────────────────────── acknowledge ◀── ledger ◀────────────────────┘

A view is a function from a key to a document, written as one `select`. A change in the
source only says which keys to derive again; streaming, the first build, a repair and
catching up are all "derive the documents of these keys, at a position at which they are
known to be current, and write them with that position as version".

    nouns      position  changes  operations  keys  shape  errors  sink (the contract)
    stages     capture  decode  derive  batch  feed  deliver  ledger  gate
    joined in  pipeline; a life of the daemon in lifetime; the process in daemon
    beside     backfill  verify  control  store  observe  source  watch  dev  cli

The one thing to know: read `pipeline.py` next.
"""
