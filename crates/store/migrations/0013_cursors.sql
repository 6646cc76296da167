-- How far readers of the event log have come that go on where they were after a restart; what tells of ended requests finds them by an index.
CREATE TABLE cursors (reader TEXT PRIMARY KEY, seq BIGINT NOT NULL, generation BIGINT NOT NULL);
CREATE INDEX events_of_requests ON events (seq) WHERE kind = 'request_done';
