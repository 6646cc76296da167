-- How often a worker was resumed from its provider's shelf, and how long that took last, in microseconds; and when each lay there, with what that
-- spared of its price, in millionths of the installation's currency for each hour. One that ended where it lay has no end of its own.
ALTER TABLE workers ADD COLUMN resumes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN resume_took BIGINT;
CREATE TABLE parkings (
    worker BIGINT NOT NULL, nth BIGINT NOT NULL, since BIGINT NOT NULL, until BIGINT, spares BIGINT NOT NULL, PRIMARY KEY (worker, nth)
);
