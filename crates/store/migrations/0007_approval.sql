-- A request that waits for a person has a state of its own, so that nobody who looks for work comes across it. `lapses` is when it ends
-- unless somebody approves it.
ALTER TABLE requests ADD COLUMN approval TEXT;
ALTER TABLE requests ADD COLUMN lapses BIGINT;
CREATE INDEX requests_unapproved ON requests (lapses) WHERE state = 'unapproved';
-- The branch that a request is about: what is counted or listed for each branch by itself goes by it.
ALTER TABLE requests ADD COLUMN branch TEXT;
