//! What is to be done next, and lists that are read page by page.

use super::{NOW, Subject, samples};
use crate::reads::{BuildFilter, RequestFilter};
use crate::{Batch, Page};
use rouse_model::approval::{Approval, ApprovalOf, Approving, Given};
use rouse_model::buildset::{Request, RequestState};
use rouse_model::worker::Worker;
use rouse_model::{BuildResult, Timestamp};

pub async fn the_queue_is_served_by_priority_then_age(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut batch = Batch::new("suite.queue");
    for (id, priority) in [(1, 0), (2, 5), (3, 0), (4, -1), (5, 5), (6, i64::MAX)] {
        // The clock proves nothing: age is the order of ids.
        batch.insert(&Request { priority, created: Timestamp(-id), ..samples::request(id) });
    }
    batch.insert(&Request { state: RequestState::Claimed, priority: 9, ..samples::request(7) });
    batch.insert(&Request { state: RequestState::Done, priority: 9, ..samples::request(8) });
    store.commit(batch).await.expect("new rows can be written");
    let order = async |limit| -> Vec<i64> {
        let queue = store.queue(limit).await.expect("the queue can be read");
        queue.iter().map(|r| r.id.0).collect()
    };
    assert_eq!(order(100).await, [6, 2, 5, 1, 3, 4]);
    assert_eq!(order(3).await, [6, 2, 5]);
    assert_eq!(store.queue_length().await.expect("the queue can be read"), 6);
    let mut claimed = store.queue(2).await.expect("the queue can be read").remove(1);
    claimed.state = RequestState::Claimed;
    let mut batch = Batch::new("suite.claim");
    batch.update(&mut claimed);
    store.commit(batch).await.expect("nobody else has changed it");
    assert_eq!(order(100).await, [6, 5, 1, 3, 4]);
}

pub async fn who_reads_again_sees_what_is_there_now(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut batch = Batch::new("suite.seen");
    for id in 1..=100 {
        batch.insert(&samples::request(id)).insert(&Worker { gone: None, ..samples::worker(id) });
    }
    store.commit(batch).await.expect("new rows can be written");
    let requests = store.queue_anew(90, Vec::new()).await.expect("the queue can be read");
    let workers = store.live_workers_anew(Vec::new()).await.expect("workers can be read");
    assert_eq!((requests.len(), workers.len()), (90, 100));
    let same = async |requests: &[Request], workers: &[Worker]| {
        let queue = store.queue(90).await.expect("the queue can be read");
        let live = store.live_workers().await.expect("workers can be read");
        let again = store.queue_anew(90, requests.to_vec()).await.expect("the queue can be read");
        let alive = store.live_workers_anew(workers.to_vec()).await.expect("workers can be read");
        assert_eq!((&again, &alive), (&queue, &live));
        (again, alive)
    };
    let seen = same(&requests, &workers).await;
    assert_eq!(seen, (requests.clone(), workers.clone()));
    // One of each that is there no more, one that is another, one that is new, and one that comes to the front.
    let mut batch = Batch::new("suite.change");
    batch.update(&mut Request { state: RequestState::Done, ..requests[3].clone() });
    batch.update(&mut Request { attempts: 7, ..requests[4].clone() });
    batch.update(&mut Request { priority: 7, ..requests[5].clone() });
    batch.insert(&Request { priority: 8, ..samples::request(101) });
    batch.update(&mut Worker { gone: Some(NOW), ..workers[3].clone() });
    batch.update(&mut Worker { builds_done: 7, ..workers[4].clone() });
    batch.insert(&Worker { gone: None, ..samples::worker(101) });
    store.commit(batch).await.expect("nobody else has changed them");
    let (requests, workers) = same(&requests, &workers).await;
    assert_eq!(requests[..2].iter().map(|r| r.id.0).collect::<Vec<_>>(), [101, 6]);
    assert!(requests.iter().any(|r| r.attempts == 7) && workers.iter().any(|w| w.builds_done == 7));
    // More than are read one by one.
    let mut batch = Batch::new("suite.change");
    for worker in &workers[..90] {
        batch.update(&mut Worker { builds_done: 9, ..worker.clone() });
    }
    store.commit(batch).await.expect("nobody else has changed them");
    let (_, workers) = same(&requests, &workers).await;
    assert_eq!(workers.iter().filter(|w| w.builds_done == 9).count(), 90);
}

pub async fn what_is_not_approved_is_not_in_the_queue_and_lapses(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut batch = Batch::new("suite.unapproved");
    let unapproved = |id, lapses| Request {
        state: RequestState::Unapproved,
        approval: Some(Approval { of: ApprovalOf::Strangers, given: None }),
        lapses: Some(Timestamp(lapses)),
        ..samples::request(id)
    };
    batch.insert(&unapproved(1, 20)).insert(&unapproved(2, 10)).insert(&unapproved(3, 30));
    batch.insert(&samples::request(4));
    batch.insert(&Request { state: RequestState::Done, ..unapproved(5, 1) });
    store.commit(batch).await.expect("new rows can be written");
    let queue = store.queue(100).await.expect("the queue can be read");
    assert_eq!(queue.iter().map(|r| r.id.0).collect::<Vec<_>>(), [4]);
    assert_eq!(store.queue_length().await.expect("the queue can be read"), 1);
    let lapsed = async |now| -> Vec<i64> {
        let lapsed = store.lapsed_requests(Timestamp(now), 100).await.expect("requests can be read");
        lapsed.iter().map(|r| r.id.0).collect()
    };
    assert_eq!(lapsed(9).await, Vec::<i64>::new());
    assert_eq!(lapsed(20).await, [2, 1]);
    let mut first =
        store.request(samples::request(1).id).await.expect("it can be read").expect("it is there");
    let given = Given { by: "alice".into(), reason: None, at: NOW };
    assert_eq!(first.approve(given), Approving::Applied);
    let mut batch = Batch::new("suite.approve");
    batch.update(&mut first);
    store.commit(batch).await.expect("nobody else has changed it");
    assert_eq!(lapsed(20).await, [2]);
    assert_eq!(store.queue(100).await.expect("the queue can be read").first(), Some(&first));
}

pub async fn pages_by_key_show_each_row_once(subject: &dyn Subject) {
    let store = subject.open().await;
    let mut batch = Batch::new("suite.builds");
    for id in 1..=130 {
        let mut build = samples::build(id);
        build.builder = if id % 2 == 0 { "even" } else { "odd" }.into();
        build.finished = (id <= 100).then_some(NOW);
        build.result = (id <= 100).then_some(BuildResult::Success);
        batch.insert(&build);
        let branch = (id <= 3).then(|| "main".to_owned());
        batch.insert(&Request { builder: build.builder, branch, ..samples::request(id) });
    }
    store.commit(batch).await.expect("new rows can be written");
    let even = BuildFilter { builder: Some("even".into()), ..BuildFilter::default() };
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.builds(&even, Page { before, limit: 20 }).await.expect("builds can be read");
        let Some(last) = page.last() else { break };
        before = Some(last.id.0);
        // What comes in while somebody turns pages does not move them.
        let mut late = samples::build(1000 + last.id.0);
        late.builder = "even".into();
        super::insert(&store, &late).await;
        seen.extend(page.iter().map(|b| b.id.0));
    }
    assert_eq!(seen, (1..=65).rev().map(|n| 2 * n).collect::<Vec<_>>());

    let newest = store.builds(&BuildFilter::default(), Page { before: Some(131), limit: 0 }).await;
    assert_eq!(newest.expect("builds can be read").len(), 1, "a page has one row at least");
    let all = Page { before: Some(131), limit: i64::MAX };
    let good = BuildFilter { result: Some(BuildResult::Success), ..BuildFilter::default() };
    assert_eq!(store.builds(&good, all).await.expect("builds can be read").len(), 100);
    let odd_of_main =
        BuildFilter { builder: Some("odd".into()), branch: Some("main".into()), ..BuildFilter::default() };
    let odd_of_main = store.builds(&odd_of_main, Page { before: None, limit: 100 }).await;
    let odd_of_main = odd_of_main.expect("builds can be read");
    assert_eq!(odd_of_main.iter().map(|b| b.id.0).collect::<Vec<_>>(), [3, 1]);
    let open = BuildFilter { open: true, ..BuildFilter::default() };
    assert_eq!(store.builds(&open, all).await.expect("builds can be read").len(), 30);
    let odd = RequestFilter { builder: Some("odd".into()), ..RequestFilter::default() };
    let requests =
        store.requests(&odd, Page { before: Some(10), limit: 3 }).await.expect("requests can be read");
    assert_eq!(requests.iter().map(|r| r.id.0).collect::<Vec<_>>(), [9, 7, 5]);
}
