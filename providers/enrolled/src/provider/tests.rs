//! Machines that break off, or are silent, in paused time.

use super::*;
use rouse_contract::Keyring;
use rouse_model::{Timestamp, Trust, WorkerId};
use serde_json::json;

const ACCOUNT: &str = "rack";

fn spec() -> LaunchSpec {
    LaunchSpec {
        pool: "board".into(),
        project: "default".into(),
        trust: Trust::Trusted,
        image: None,
        options: json!({}),
        env: [].into(),
        secrets: Keyring::default(),
        shelves: Vec::new(),
        beside: [].into(),
        tree: None,
    }
}

fn item(token: &str) -> LaunchItem {
    let tag = Tag {
        installation: "i".into(),
        store_epoch: 1,
        pool: "board".into(),
        worker: WorkerId(1),
        name: token.into(),
        token: LaunchToken(token.into()),
    };
    LaunchItem { tag, join: b"{}".to_vec(), needs_network: true, offering: None, expires: Timestamp(0) }
}

/// A machine that has nothing; where it answers `None`, it is silent.
fn comes(hub: &Arc<Hub>, name: &'static str, answers: impl Fn(&Call) -> Option<Answer> + Send + 'static) {
    let mut connected = hub.attach(ACCOUNT, name, "one", "linux", true).unwrap();
    let hub = Arc::clone(hub);
    tokio::spawn(async move {
        while let Some(asked) = connected.calls.recv().await {
            if let Some(answer) = answers(&asked.call) {
                hub.answered(ACCOUNT, name, connected.session, asked.id, answer);
            }
        }
    });
}

/// All that a healthy one says.
fn healthy(call: &Call) -> Option<Answer> {
    match call {
        Call::List {} => Some(Answer::Listed(Vec::new())),
        Call::Launch { tag, .. } => {
            Some(Answer::Launched(LaunchOutcome::Accepted { at: ProviderRef(tag.token.0.clone()) }))
        }
        _ => None,
    }
}

async fn launch(machines: &Machines, token: &str) -> LaunchOutcome {
    machines.launch(&spec(), &[item(token)]).await.pop().unwrap()
}

/// As the layers give up.
async fn is_silent(machines: &Machines, token: &str) -> bool {
    timeout(Duration::from_secs(120), launch(machines, token)).await.is_err()
}

fn accepted(at: &str) -> LaunchOutcome {
    LaunchOutcome::Accepted { at: ProviderRef(at.into()) }
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_nobody_asks_for_any_more_takes_no_room() {
    let hub = Arc::new(Hub::default());
    comes(&hub, "a", |call| match call {
        Call::Launch { tag, .. } if tag.token.0 == "lost" => None,
        call => healthy(call),
    });
    let machines = Machines::new(Arc::clone(&hub), ACCOUNT, 1);
    let is_full = async || matches!(launch(&machines, "next").await, LaunchOutcome::NoCapacity { .. });
    assert!(is_silent(&machines, "lost").await);
    assert!(is_full().await, "it may be there");
    // Another machine is not asked for it as long as somebody wants it.
    comes(&hub, "b", healthy);
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(50)).await;
        assert!(is_silent(&machines, "lost").await);
    }
    assert_eq!(launch(&machines, "on b").await, accepted("b/on b"));
    hub.revoke(ACCOUNT, "b");
    assert!(is_full().await);
    tokio::time::advance(UNASKED).await;
    assert_eq!(launch(&machines, "next").await, accepted("a/next"));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_say_what_it_has_holds_up_no_launch_on_another() {
    let hub = Arc::new(Hub::default());
    comes(&hub, "hangs", |_| None);
    let machines = Machines::new(Arc::clone(&hub), ACCOUNT, 8);
    let LaunchOutcome::NoCapacity { offering } = launch(&machines, "x").await else {
        panic!("it went somewhere")
    };
    assert!(offering.contains("machine `hangs` did not answer within 10 s"), "{offering}");
    comes(&hub, "works", healthy);
    let began = Instant::now();
    let launches = ["1", "2", "3", "4", "5"].map(|token| launch(&machines, token));
    for (outcome, n) in join_all(launches).await.into_iter().zip(1..) {
        assert_eq!(outcome, accepted(&format!("works/{n}")));
    }
    assert!(began.elapsed() <= LISTING, "{:?}", began.elapsed());
    // A list that is not whole is none.
    let error = machines.list().await.unwrap_err();
    assert!(error.to_string().contains("machine `hangs` did not answer"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn machines_are_not_asked_for_more_than_they_run() {
    let hub = Arc::new(Hub::default());
    comes(&hub, "a", healthy);
    comes(&hub, "b", healthy);
    let machines = Machines::new(Arc::clone(&hub), ACCOUNT, 2);
    let tokens: Vec<String> = (0..6).map(|n| n.to_string()).collect();
    // Each twice at the same time: that is one wish.
    let launches = tokens.iter().chain(&tokens).map(|token| launch(&machines, token));
    let outcomes = join_all(launches).await;
    assert_eq!(outcomes[..6], outcomes[6..]);
    let on = |machine: &str| {
        let at =
            |o: &&LaunchOutcome| matches!(o, LaunchOutcome::Accepted { at } if at.0.starts_with(machine));
        outcomes[..6].iter().filter(at).count()
    };
    assert_eq!((on("a/"), on("b/")), (2, 2), "{outcomes:?}");
    let LaunchOutcome::NoCapacity { offering } = &outcomes[5] else { panic!("{outcomes:?}") };
    assert!(offering.contains("the 2 machine(s) that are connected run 2 each"), "{offering}");
}
