//! Numbers committed events, for all masters. Woken by this master's commits, it takes whatever has gathered meanwhile in one go; and it
//! looks by itself from time to time, since a master may die between its commit and the numbers.

use crate::Committed;
use crate::dialect::{STAMP, TAKE_COUNTER, UNNUMBERED};
use sqlx::PgPool;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long an event of a master that died may stay without a number.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn run(pool: PgPool, mut woken: mpsc::Receiver<()>, committed: Committed) {
    let mut failing = false;
    loop {
        match number(&pool).await {
            Ok(0) => {}
            Ok(_) => {
                committed.send_modify(|n| *n = n.wrapping_add(1));
                // Those that came meanwhile.
                continue;
            }
            Err(error) if !failing => {
                tracing::warn!(%error, "events cannot be numbered now");
                failing = true;
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Err(_) => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
        }
        failing = false;
        if let Ok(None) = tokio::time::timeout(LOOK, woken.recv()).await {
            return;
        }
    }
}

/// One transaction; how many events got their number.
async fn number(pool: &PgPool) -> Result<i64, sqlx::Error> {
    if !sqlx::query_scalar::<_, bool>(UNNUMBERED).fetch_one(pool).await? {
        return Ok(0);
    }
    let mut tx = pool.begin().await?;
    sqlx::query(TAKE_COUNTER).execute(&mut *tx).await?;
    let numbered: i64 = sqlx::query_scalar(STAMP).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(numbered)
}
