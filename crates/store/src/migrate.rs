//! Numbered migrations, forward only. Each is a file that both databases read, with the dialect's words put in.

use crate::dialect::Dialect;

/// All of them, in order; the number of one is its place, from 1.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_first.sql"),
    include_str!("../migrations/0002_following.sql"),
    include_str!("../migrations/0003_owners.sql"),
    include_str!("../migrations/0004_locks.sql"),
    include_str!("../migrations/0005_tests.sql"),
    include_str!("../migrations/0006_caches.sql"),
    include_str!("../migrations/0007_approval.sql"),
    include_str!("../migrations/0008_decisions.sql"),
    include_str!("../migrations/0009_money.sql"),
    include_str!("../migrations/0010_enrolments.sql"),
    include_str!("../migrations/0011_triggers.sql"),
    include_str!("../migrations/0012_offerings.sql"),
    include_str!("../migrations/0013_cursors.sql"),
    include_str!("../migrations/0014_parking.sql"),
];

/// The statements of one migration for one database. No statement holds a semicolon but its end.
pub(crate) fn statements(number: usize, dialect: &Dialect) -> Vec<String> {
    let text = MIGRATIONS[number - 1]
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect::<Vec<_>>()
        .join("\n")
        .replace("{ID}", dialect.id)
        .replace(" TEXT", &format!(" {}", dialect.text));
    let mut all: Vec<String> =
        text.split(';').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
    if number == 1 {
        all.extend(dialect.events.iter().map(|s| (*s).to_owned()));
        all.push(format!(
            "INSERT INTO meta (key, value) VALUES ('installation', '{}')",
            uuid::Uuid::new_v4().simple()
        ));
        all.push("INSERT INTO meta (key, value) VALUES ('store_epoch', '1')".to_owned());
        all.push("INSERT INTO meta (key, value) VALUES ('schema', '1')".to_owned());
    } else {
        all.push(format!("UPDATE meta SET value = '{number}' WHERE key = 'schema'"));
    }
    all
}
