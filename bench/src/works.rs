//! The works, in the order of the table in `docs/performance.md`.

mod agents;
mod backlog;
mod builds;
mod cache;
mod docker;
mod latency;
mod log;
mod log300;
mod rest;
mod seed;
mod start;
mod stream;
mod tick;

use anyhow::Result;

use crate::ground::Ground;
use crate::report::Row;

pub struct Work {
    pub name: &'static str,
    pub unit: &'static str,
    pub about: &'static str,
    pub run: fn(&Ground) -> Result<Row>,
}

pub const ALL: &[Work] = &[
    Work {
        name: "builds",
        unit: "1/s",
        about: "trivial builds, 16 attached local workers, SQLite",
        run: builds::sixteen,
    },
    Work { name: "builds1", unit: "1/s", about: "the same with one worker", run: builds::one },
    Work { name: "builds64", unit: "1/s", about: "the same with 64 workers", run: builds::sixty_four },
    Work { name: "builds_pg", unit: "1/s", about: "16 workers, PostgreSQL", run: builds::postgres },
    Work { name: "latency", unit: "ms", about: "idle: request sent → command running", run: latency::run },
    Work { name: "log", unit: "MB/s", about: "one stream of lines to durable storage", run: log::one },
    Work { name: "log8", unit: "MB/s", about: "eight streams", run: log::eight },
    Work {
        name: "log300",
        unit: "ms",
        about: "300 streams and a hung reader: the API's p99",
        run: log300::run,
    },
    Work {
        name: "docker",
        unit: "ms",
        about: "cold container: request accepted → build done",
        run: docker::run,
    },
    Work {
        name: "cache",
        unit: "s",
        about: "second checkout of a 500 MB repository on a host, by a new worker",
        run: cache::run,
    },
    Work {
        name: "stream",
        unit: "ms",
        about: "a request each 50 ms, 4 idle workers: worst start",
        run: stream::run,
    },
    Work { name: "backlog", unit: "ms", about: "10,000 pending: one more request", run: backlog::run },
    Work {
        name: "start",
        unit: "s",
        about: "100,000 builds and 1,000 builders in the database",
        run: start::run,
    },
    Work {
        name: "agents",
        unit: "KB",
        about: "idle simulated agents: resident memory each",
        run: agents::run,
    },
    Work {
        name: "tick",
        unit: "ms",
        about: "the scaler's sum: 1,000 workers, 100,000 pending requests",
        run: tick::run,
    },
    Work { name: "rest", unit: "ms", about: "newest 50 of 100,000 builds, 8 clients, p95", run: rest::run },
];
