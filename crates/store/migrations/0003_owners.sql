-- Who owns a worker may change: its agent tells an old owner from a new one by this.
ALTER TABLE workers ADD COLUMN term BIGINT NOT NULL DEFAULT 1;
