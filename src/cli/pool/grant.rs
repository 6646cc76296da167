//! `rouse pool grant` and `grants`.

use crate::api::views::BudgetGrantView;
use crate::cli::client::{Client, part};
use crate::cli::error::CliError;
use crate::cli::output::{Out, Table, human};
use crate::config::Period;
use rouse_model::Timestamp;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(crate) struct GrantArgs {
    /// Its name
    pool: String,
    /// How much more each limit of its budget allows, in the configuration's currency: `20`, `2.50`
    amount: f64,
    /// For how long: `6h`, `2d`; 31 days at most
    #[arg(long = "for", value_name = "PERIOD")]
    length: Period,
    /// Why, for whoever looks at it later
    #[arg(short, long, alias = "why")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct GrantsArgs {
    /// Its name
    pool: String,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

pub(super) async fn grant(args: &GrantArgs, client: &Client, out: &mut Out) -> Result<(), CliError> {
    let body = json!({"amount": args.amount, "seconds": args.length.0.as_secs_f64(), "reason": args.reason});
    let value = client.post(&format!("/pools/{}/grants", part(&args.pool)), &body).await?;
    out.show(value, |grant: &BudgetGrantView| {
        format!("pool {} may spend {:.2} more until {}\n", grant.pool, grant.amount, grant.until)
    })
}

pub(super) async fn list(args: &GrantsArgs, client: &Client, out: &mut Out) -> Result<(), CliError> {
    let path = format!("/pools/{}/grants", part(&args.pool));
    let items = client.list(&path, &Vec::new(), args.limit).await?;
    out.list(items, "nothing was granted beyond its budget", table)
}

fn table(grants: &[BudgetGrantView], now: Timestamp) -> Table {
    let mut table = Table::new(&["amount", "granted", "until", "by"]);
    for grant in grants {
        table.row(vec![
            format!("{:.2}", grant.amount).into(),
            human::ago(grant.granted, now).into(),
            grant.until.to_string().into(),
            grant.by.clone().into(),
        ]);
    }
    table
}
