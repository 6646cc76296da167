-- What builds keep for those after them: one archive for each version, of which one counts for each key.
CREATE TABLE caches (
    id BIGINT PRIMARY KEY, project TEXT NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, build BIGINT NOT NULL, bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL, object TEXT NOT NULL, created BIGINT NOT NULL, used BIGINT NOT NULL, replaced BIGINT, generation BIGINT NOT NULL
);
CREATE UNIQUE INDEX caches_in_force ON caches (project, name, key) WHERE replaced IS NULL;
CREATE INDEX caches_replaced ON caches (replaced) WHERE replaced IS NOT NULL;
