-- Builds that only wait for builds that they have started, and what a build has started.
ALTER TABLE builds ADD COLUMN waiting_from BIGINT;
CREATE INDEX builds_waiting ON builds (worker) WHERE waiting_from IS NOT NULL;
CREATE INDEX buildsets_by_parent ON buildsets (parent, id) WHERE parent IS NOT NULL;
