-- {ID} is the dialect's integer key; everything else is read by both databases as it stands.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE id_blocks (kind TEXT PRIMARY KEY, next BIGINT NOT NULL);

CREATE TABLE masters (
    id {ID}, name TEXT NOT NULL UNIQUE, machine TEXT NOT NULL, term BIGINT NOT NULL, counter BIGINT NOT NULL,
    started BIGINT NOT NULL, stopped BIGINT NOT NULL
);
CREATE TABLE roles (role TEXT NOT NULL, shard TEXT NOT NULL, master BIGINT NOT NULL, term BIGINT NOT NULL, PRIMARY KEY (role, shard));

CREATE TABLE config_revisions (
    id {ID}, hash TEXT NOT NULL, sources TEXT NOT NULL, author TEXT NOT NULL, effective BIGINT NOT NULL
);
CREATE TABLE plans (hash TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE api_tokens (
    id {ID}, name TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL UNIQUE, role TEXT NOT NULL, project TEXT NOT NULL, created BIGINT NOT NULL
);

CREATE TABLE heads (
    codebase TEXT NOT NULL, branch TEXT NOT NULL, revision TEXT, seen_at BIGINT NOT NULL, generation BIGINT NOT NULL,
    PRIMARY KEY (codebase, branch)
);
CREATE TABLE codebase_states (
    codebase TEXT PRIMARY KEY, url TEXT NOT NULL, looked BIGINT, error TEXT, failing_since BIGINT, generation BIGINT NOT NULL
);
CREATE TABLE change_sets (
    id {ID}, project TEXT NOT NULL, codebase TEXT NOT NULL, branch TEXT NOT NULL, revision TEXT NOT NULL, base TEXT,
    trust TEXT NOT NULL, commits BIGINT NOT NULL, seen_at BIGINT NOT NULL, noticed_by TEXT NOT NULL
);
CREATE INDEX change_sets_by_codebase ON change_sets (codebase, branch, id);
CREATE TABLE changes (
    id {ID}, change_set BIGINT NOT NULL, codebase TEXT NOT NULL, branch TEXT NOT NULL, revision TEXT NOT NULL, author TEXT NOT NULL,
    message TEXT NOT NULL, files TEXT NOT NULL, authored_at BIGINT NOT NULL
);
CREATE INDEX changes_by_set ON changes (change_set, id);
CREATE INDEX changes_by_revision ON changes (revision);

CREATE TABLE scheduler_states (
    scheduler TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, generation BIGINT NOT NULL, PRIMARY KEY (scheduler, key)
);
CREATE TABLE buildsets (
    id {ID}, origin TEXT NOT NULL UNIQUE, project TEXT NOT NULL, scheduler TEXT, reason TEXT NOT NULL, owner TEXT,
    properties TEXT NOT NULL, trust TEXT NOT NULL, parent BIGINT, created BIGINT NOT NULL, done BIGINT, result BIGINT,
    generation BIGINT NOT NULL
);
CREATE INDEX buildsets_open ON buildsets (id) WHERE done IS NULL;
CREATE INDEX buildsets_by_scheduler ON buildsets (scheduler, id);
CREATE TABLE source_stamps (
    buildset BIGINT NOT NULL, codebase TEXT NOT NULL, branch TEXT, revision TEXT, change_set BIGINT, trust TEXT NOT NULL,
    PRIMARY KEY (buildset, codebase)
);
CREATE TABLE requests (
    id {ID}, buildset BIGINT NOT NULL, builder TEXT NOT NULL, project TEXT NOT NULL, state TEXT NOT NULL, priority BIGINT NOT NULL,
    created BIGINT NOT NULL, not_before BIGINT, attempts BIGINT NOT NULL, trust TEXT NOT NULL, cancel TEXT, build BIGINT,
    claimed_by BIGINT, result BIGINT, done BIGINT, config BIGINT NOT NULL, provision TEXT NOT NULL, generation BIGINT NOT NULL
);
CREATE INDEX requests_queued ON requests (priority DESC, id) WHERE state = 'queued';
CREATE INDEX requests_by_buildset ON requests (buildset, id);
CREATE INDEX requests_by_builder ON requests (builder, id);

CREATE TABLE builds (
    id {ID}, request BIGINT NOT NULL, buildset BIGINT NOT NULL, builder TEXT NOT NULL, project TEXT NOT NULL, attempt BIGINT NOT NULL,
    worker BIGINT, slot BIGINT NOT NULL, master BIGINT NOT NULL, config BIGINT NOT NULL, plan TEXT NOT NULL, trust TEXT NOT NULL,
    summary TEXT NOT NULL, cancel TEXT, result BIGINT, class TEXT, requested BIGINT NOT NULL, provisioned_from BIGINT NOT NULL,
    matched BIGINT NOT NULL, running_from BIGINT, finishing_from BIGINT, finished BIGINT, generation BIGINT NOT NULL,
    UNIQUE (request, attempt)
);
CREATE INDEX builds_open ON builds (id) WHERE finished IS NULL;
CREATE INDEX builds_by_builder ON builds (builder, id);
CREATE INDEX builds_by_worker ON builds (worker, id);
CREATE TABLE build_properties (build BIGINT NOT NULL, name TEXT NOT NULL, property TEXT NOT NULL, PRIMARY KEY (build, name));
CREATE TABLE steps (
    id {ID}, build BIGINT NOT NULL, seq BIGINT NOT NULL, name TEXT NOT NULL, result BIGINT, class TEXT, summary TEXT NOT NULL,
    started BIGINT NOT NULL, finished BIGINT, memory TEXT NOT NULL, generation BIGINT NOT NULL,
    UNIQUE (build, seq)
);
CREATE TABLE commands (
    id {ID}, build BIGINT NOT NULL, step BIGINT NOT NULL, seq BIGINT NOT NULL, worker BIGINT NOT NULL, incarnation TEXT NOT NULL,
    log BIGINT NOT NULL, state TEXT NOT NULL, action TEXT NOT NULL, outcome TEXT, stop TEXT, generation BIGINT NOT NULL,
    UNIQUE (step, seq)
);
CREATE INDEX commands_by_build ON commands (build, id);
CREATE INDEX commands_wanted ON commands (worker, id) WHERE state = 'wanted';
CREATE TABLE logs (
    id {ID}, build BIGINT NOT NULL, step BIGINT NOT NULL, name TEXT NOT NULL, bytes BIGINT NOT NULL, lines BIGINT NOT NULL,
    sealed BIGINT NOT NULL, inline BYTEA, note TEXT, created BIGINT NOT NULL, generation BIGINT NOT NULL
);
CREATE INDEX logs_by_build ON logs (build, id);
CREATE INDEX logs_by_step ON logs (step, id);
CREATE TABLE log_segments (
    log BIGINT NOT NULL, seq BIGINT NOT NULL, first_byte BIGINT NOT NULL, bytes BIGINT NOT NULL, first_line BIGINT NOT NULL,
    lines BIGINT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (log, seq)
);
CREATE TABLE artifacts (
    id {ID}, build BIGINT NOT NULL, step BIGINT NOT NULL, "set" TEXT NOT NULL, path TEXT NOT NULL, bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL, key TEXT NOT NULL, created BIGINT NOT NULL, UNIQUE (build, "set", path)
);

CREATE TABLE workers (
    id {ID}, name TEXT NOT NULL UNIQUE, pool TEXT NOT NULL, provider TEXT NOT NULL, project TEXT NOT NULL, trust TEXT NOT NULL,
    spec_digest TEXT NOT NULL, spec TEXT NOT NULL, config BIGINT NOT NULL, attempt BIGINT NOT NULL, master BIGINT NOT NULL,
    slots BIGINT NOT NULL, max_builds BIGINT NOT NULL, builds_done BIGINT NOT NULL, wanted TEXT NOT NULL, phase TEXT NOT NULL,
    link TEXT NOT NULL, incarnation TEXT, agent_key TEXT, facts TEXT, requested BIGINT NOT NULL, accepted BIGINT, attached BIGINT,
    idle_since BIGINT, gone BIGINT, expires BIGINT NOT NULL, console TEXT, generation BIGINT NOT NULL
);
CREATE INDEX workers_live ON workers (id) WHERE gone IS NULL;
CREATE INDEX workers_by_pool ON workers (pool, id);
CREATE TABLE leases (
    worker BIGINT NOT NULL, slot BIGINT NOT NULL, build BIGINT NOT NULL UNIQUE, since BIGINT NOT NULL, PRIMARY KEY (worker, slot)
);
