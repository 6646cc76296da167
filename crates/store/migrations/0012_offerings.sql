-- Which of what its pool may be launched as a worker is, and what accounts have refused lately.
ALTER TABLE workers ADD COLUMN offering TEXT;
CREATE TABLE offering_health (
    account TEXT NOT NULL, what TEXT NOT NULL, wanted_by TEXT NOT NULL, refused_since BIGINT, failures BIGINT NOT NULL, until BIGINT NOT NULL,
    changed BIGINT NOT NULL, PRIMARY KEY (account, what)
);
