-- The locks that a request has stand in its own row: they come with it into the hands of whoever builds it, and go with its end.
ALTER TABLE requests ADD COLUMN locks TEXT;
CREATE INDEX requests_with_locks ON requests (id) WHERE locks IS NOT NULL;
