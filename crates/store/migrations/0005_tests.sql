-- What test reports came to: a row for each step that kept some, and one for each test that did not pass. The reports themselves are files of the build.
CREATE TABLE test_reports (
    build BIGINT NOT NULL, step BIGINT NOT NULL, builder TEXT NOT NULL, branch TEXT NOT NULL, trust TEXT NOT NULL, total BIGINT NOT NULL,
    failed BIGINT NOT NULL, skipped BIGINT NOT NULL, duration_us BIGINT NOT NULL, created BIGINT NOT NULL, PRIMARY KEY (build, step)
);
CREATE INDEX test_reports_by_line ON test_reports (builder, branch, trust, build);
CREATE INDEX test_reports_by_builder ON test_reports (builder, build);
CREATE TABLE test_results (
    build BIGINT NOT NULL, step BIGINT NOT NULL, seq BIGINT NOT NULL, suite TEXT NOT NULL, name TEXT NOT NULL, outcome TEXT NOT NULL,
    duration_us BIGINT, message TEXT NOT NULL, since BIGINT, PRIMARY KEY (build, step, seq)
);
