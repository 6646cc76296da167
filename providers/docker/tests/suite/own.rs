//! What only Docker has: images of every sort, users, read-only roots, and a daemon that is away.

use crate::bench::{self, BUSYBOX, EMPTY, Host};
use rouse_contract::conformance::{Bench, Hand, Joins, Of};
use rouse_contract::{Keyring, LaunchOutcome, ObservedState, ResolveRequest, Resolved};
use rouse_model::failure::FailureClass;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Launches with the options, and sees the agent come to the master's socket from within.
async fn attaches(host: &Host, image: &str, options: Value) -> bollard::models::ContainerInspectResponse {
    let mut hand = Hand::new(host, Of::Ours).await;
    hand.spec = host.spec_of(image, options).await;
    let tag = hand.tag("attaches");
    let item = hand.prepare(&tag, Joins::InVain).await;
    let sock = hand.provider.link_dir(&tag).await.expect("a link folder").expect("on this host").join("sock");
    std::fs::remove_file(&sock).expect("nobody listens there");
    let master = tokio::net::UnixListener::bind(&sock).expect("bound");
    std::fs::set_permissions(&sock, std::fs::Permissions::from_mode(0o666)).expect("for any user");
    let LaunchOutcome::Accepted { at } = hand.launch(&item).await else { panic!("not accepted") };
    let (mut agent, _) = match tokio::time::timeout(PATIENCE, master.accept()).await {
        Ok(accepted) => accepted.expect("accepted"),
        Err(_) => panic!("nobody came: {:?}", hand.provider.console_tail(&at, 4000).await),
    };
    let mut request = [0; 3];
    agent.read_exact(&mut request).await.expect("a request");
    assert_eq!(&request, b"GET");
    let id = host.containers_of(&tag).await.remove(0).id.expect("its id");
    let found = host.docker.inspect_container(&id, None).await.expect("inspected");
    hand.clear().await;
    found
}

/// How long a container may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_image_with_nothing_in_it_will_do() {
    let Some(host) = bench::bench().await else { return };
    attaches(&host, EMPTY, json!({"network": "none", "read_only": true})).await;
}

#[tokio::test]
async fn an_image_with_a_user_of_its_own_and_a_root_that_cannot_be_written_will_do() {
    let Some(host) = bench::bench().await else { return };
    let options = json!({
        "network": "none", "read_only": true, "memory": "64 MiB", "cpus": 0.5, "pids": 100, "shm": "16 MiB",
        "labels": {"team": "web"}, "env": {"CC": "gcc"}, "entrypoint": ["/bin/sh", "-c", "touch /tmp/x /.rouse/work/x && exec \"$0\" \"$@\""],
        "mounts": [{"source": "/usr", "target": "/host", "readonly": true}],
    });
    let found = attaches(&host, BUSYBOX, options).await;
    let limits = found.host_config.expect("limits");
    assert_eq!((limits.memory, limits.memory_swap), (Some(64 << 20), Some(64 << 20)));
    assert_eq!(
        (limits.nano_cpus, limits.pids_limit, limits.shm_size),
        (Some(500_000_000), Some(100), Some(16 << 20))
    );
    assert_eq!(limits.security_opt, Some(vec!["no-new-privileges".into()]));
    let config = found.config.expect("a configuration");
    assert_eq!(config.labels.expect("labels").get("team").map(String::as_str), Some("web"));
    let env = config.env.expect("an environment");
    assert!(env.contains(&"CC=gcc".to_owned()) && env.contains(&"FROM_SPEC=yes".to_owned()), "{env:?}");
}

#[tokio::test]
async fn what_the_daemon_refuses_is_told_in_its_words_and_leaves_nothing() {
    let Some(host) = bench::bench().await else { return };
    for (options, words) in [
        (json!({"user": "nobody-here"}), "nobody-here"),
        (json!({"entrypoint": ["/sbin/no-such-init"]}), "no-such-init"),
        (json!({"mounts": [{"source": "/no/such/folder", "target": "/x"}]}), "/no/such/folder"),
    ] {
        // Podman makes a folder that is not there.
        if env!("CARGO_CRATE_NAME") == "podman" && words == "/no/such/folder" {
            continue;
        }
        let mut options = options;
        options["network"] = json!("none");
        let mut hand = Hand::new(&host, Of::Ours).await;
        hand.spec = host.spec_of(BUSYBOX, options).await;
        let tag = hand.tag("refused");
        let item = hand.prepare(&tag, Joins::InVain).await;
        let outcome = hand.launch(&item).await;
        let LaunchOutcome::Invalid { class: FailureClass::Image, reason } = &outcome else {
            panic!("{outcome:?}")
        };
        assert!(reason.contains(words), "{reason}");
        assert_eq!(host.containers_of(&tag).await.len(), 0);
        hand.clear().await;
    }
}

#[tokio::test]
async fn what_was_printed_in_pieces_before_the_end_is_kept() {
    let Some(host) = bench::bench().await else { return };
    let mut hand = Hand::new(&host, Of::Ours).await;
    let pieces = "printf 'no ' >&2; busybox sleep 0.2; printf 'way in' >&2; exit 3";
    let options = json!({"network": "none", "entrypoint": ["/bin/sh", "-c", pieces]});
    hand.spec = host.spec_of(BUSYBOX, options).await;
    let tag = hand.tag("pieces");
    let item = hand.prepare(&tag, Joins::InVain).await;
    let at = match hand.launch(&item).await {
        LaunchOutcome::Accepted { at } | LaunchOutcome::Died { at, .. } => at,
        other => panic!("{other:?}"),
    };
    assert_eq!(hand.console_with(&at, "way in").await, "no way in");
    hand.clear().await;
}

#[tokio::test]
async fn an_agent_volume_that_somebody_removed_is_filled_again() {
    let Some(host) = bench::bench().await else { return };
    let hand = Hand::new(&host, Of::Ours).await;
    let at = hand.launched(&hand.tag("first")).await;
    hand.provider.terminate(&at).await.expect("terminated");
    let volumes = hand.provider.list().await.expect("a list");
    let [volume] = volumes.as_slice() else { panic!("{volumes:?}") };
    assert!(matches!(volume.state, ObservedState::Resource { keep: true, .. }), "{volume:?}");
    let name = volume.at.0.strip_prefix("volume:").expect("a volume");
    host.docker
        .remove_volume(name, None::<bollard::query_parameters::RemoveVolumeOptions>)
        .await
        .expect("removed");
    let tag = hand.tag("second");
    hand.launched(&tag).await;
    hand.wait_running(&tag, 1).await;
    hand.clear().await;
}

#[tokio::test]
async fn the_first_image_that_exists_is_taken() {
    let Some(host) = bench::bench().await else { return };
    let provider = host.provider(Of::Ours);
    let ask = async |images: &[&str], options: Value| {
        let images = images.iter().map(|&image| image.to_owned()).collect();
        provider.resolve(&ResolveRequest { images, options, secrets: Keyring::default(), tree: None }).await
    };
    // Podman has a digest also for what no registry has.
    let wanted = host.image(EMPTY).await.id;
    let is_wanted = async |found: Resolved| {
        assert_eq!((found.image.as_str(), host.image(&found.id).await.id), (EMPTY, wanted.clone()));
    };
    let found = ask(&["rouse-test-provider:none", EMPTY, BUSYBOX], json!({"pull": "never"})).await;
    is_wanted(found.expect("found")).await;
    // What is there is not pulled.
    is_wanted(ask(&[EMPTY], json!({})).await.expect("found")).await;
    let error = ask(&[EMPTY], json!({"pull": "never", "platform": "linux/s390x"}))
        .await
        .expect_err("another platform");
    assert_eq!(error.class, FailureClass::Image, "{error}");
    assert!(error.message.contains("linux/s390x"), "{error}");
    let error = ask(&["a:1", "b:2"], json!({"pull": "never"})).await.expect_err("neither");
    assert_eq!(error.class, FailureClass::Image);
    assert!(error.to_string().contains("a:1") && error.to_string().contains("b:2"), "{error}");
    let error = ask(&["Not A Name"], json!({})).await.expect_err("no name");
    assert_eq!(error.class, FailureClass::Image, "{error}");
}

#[tokio::test]
async fn a_daemon_that_is_away_is_no_ones_build_failure() {
    let daemon = rouse_provider_docker::Daemon::at("unix:///nowhere/docker.sock").expect("an address");
    let error = daemon.version().await.expect_err("nobody is there");
    assert_eq!(error.class, FailureClass::Offering);
    assert!(error.retry_after.is_some() && error.to_string().contains("/nowhere/docker.sock"), "{error}");
}

#[tokio::test]
async fn its_shelves_hold_what_was_put_there() {
    let Some(host) = bench::bench().await else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let provider = host.provider(Of::Ours);
    rouse_contract::conformance::shelves(&*provider, scratch.path()).await;
}
