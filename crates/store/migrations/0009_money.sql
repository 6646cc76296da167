-- What workers cost, in millionths of the installation's currency for each hour, and what was allowed beyond a pool's budget.
ALTER TABLE workers ADD COLUMN price BIGINT NOT NULL DEFAULT 0;
CREATE INDEX workers_by_end ON workers (pool, gone) WHERE price > 0;
CREATE TABLE budget_grants (
    id BIGINT PRIMARY KEY, pool TEXT NOT NULL, amount BIGINT NOT NULL, granted BIGINT NOT NULL, until BIGINT NOT NULL, by TEXT NOT NULL
);
CREATE INDEX budget_grants_by_pool ON budget_grants (pool, id);
