-- What the fleet came to for each pool, pass by pass; those that came to the same one after the other are one row.
CREATE TABLE decisions (
    id BIGINT PRIMARY KEY, pool TEXT NOT NULL, code TEXT NOT NULL, at BIGINT NOT NULL, until BIGINT NOT NULL, passes BIGINT NOT NULL,
    config BIGINT NOT NULL, master BIGINT NOT NULL, reckoning TEXT NOT NULL
);
CREATE INDEX decisions_by_pool ON decisions (pool, id);
ALTER TABLE workers ADD COLUMN decision BIGINT;
