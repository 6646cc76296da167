-- Machines that may come as hosts of workers, with the public half of the key of each.
CREATE TABLE enrolments (
    account TEXT NOT NULL, name TEXT NOT NULL, public_key TEXT NOT NULL, enrolled BIGINT NOT NULL, enrolled_by TEXT NOT NULL, revoked BIGINT,
    generation BIGINT NOT NULL, PRIMARY KEY (account, name)
);
