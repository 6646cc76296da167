-- What a poller must know to tell a branch that is new from one that is newly watched, and to name the branch that nobody names.
ALTER TABLE codebase_states ADD COLUMN watching TEXT;
ALTER TABLE codebase_states ADD COLUMN default_branch TEXT;
-- Schedulers follow the log by kind; each index holds the few events that they look for.
CREATE INDEX events_of_change_sets ON events (seq) WHERE kind = 'change_set_seen';
CREATE INDEX events_of_buildsets ON events (seq) WHERE kind = 'buildset_done';
CREATE INDEX events_of_configs ON events (subject, seq) WHERE kind = 'config_applied';
