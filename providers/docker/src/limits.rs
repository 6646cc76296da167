//! Limits that a daemon takes and does not keep: a rootless one that was given no cgroup leaves them out, and says so in a warning or in its log only.
//! Builds that could take all of a host's memory, whatever their pool says, are worse than none. Knows nothing of workers.

use crate::daemon::Daemon;
use crate::failure::Failed;
use crate::observe;
use bollard::models::{HostConfig, SystemInfo, SystemInfoCgroupDriverEnum};

/// What is asked for of a container, each under its key in the configuration.
pub(crate) type Asked = [(&'static str, bool); 3];

pub(crate) fn asked(memory: bool, cpus: bool, pids: bool) -> Asked {
    [("memory", memory), ("cpus", cpus), ("pids", pids)]
}

/// Why a container that was made is not to be started; `None` where all is as it was asked for.
pub(crate) async fn refusal(
    daemon: &Daemon,
    container: &str,
    asked: Asked,
) -> Result<Option<String>, Failed> {
    if asked.iter().all(|(_, wanted)| !wanted) {
        return Ok(None);
    }
    let found = observe::container(daemon, container).await?;
    let has = found.and_then(|found| found.host_config).unwrap_or_default();
    let without = daemon.without().await?;
    let left_out = left_out(asked, &without, &has);
    Ok((!left_out.is_empty()).then(|| {
        let keys = left_out.join("`, `");
        format!(
            "the daemon {} does not keep `{keys}`: a rootless one needs cgroups of version 2 that are delegated to its user; \
             delegate them (`Delegate=cpu memory pids` for `user@.service`), or leave `{keys}` out",
            daemon.host()
        )
    }))
}

/// Docker says what it cannot keep, and shows what was asked for in the container; Podman says that it keeps all, and shows what it does.
fn left_out(asked: Asked, without: &[&'static str], has: &HostConfig) -> Vec<&'static str> {
    let is_set = |value: Option<i64>| value.is_some_and(|value| value > 0);
    let kept = |key: &str| match key {
        "memory" => is_set(has.memory),
        "cpus" => is_set(has.nano_cpus) || is_set(has.cpu_quota),
        _ => is_set(has.pids_limit),
    };
    let missing = |key| without.contains(&key) || !kept(key);
    asked.into_iter().filter(|(key, wanted)| *wanted && missing(key)).map(|(key, _)| key).collect()
}

/// What a daemon says that it cannot keep.
pub(crate) fn without(info: &SystemInfo) -> Vec<&'static str> {
    let none = info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::NONE);
    let said = [("memory", info.memory_limit), ("cpus", info.cpu_cfs_quota), ("pids", info.pids_limit)];
    said.into_iter().filter(|(_, kept)| none || *kept == Some(false)).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_named() {
        let none = HostConfig::default();
        let zero =
            HostConfig { memory: Some(0), nano_cpus: Some(0), pids_limit: Some(-1), ..Default::default() };
        let all =
            HostConfig { memory: Some(1), cpu_quota: Some(5), pids_limit: Some(9), ..Default::default() };
        for has in [&none, &zero] {
            assert_eq!(left_out(asked(true, true, true), &[], has), ["memory", "cpus", "pids"]);
            assert_eq!(left_out(asked(false, false, true), &[], has), ["pids"]);
            assert!(left_out(asked(false, false, false), &[], has).is_empty());
        }
        assert!(left_out(asked(true, true, true), &[], &all).is_empty());
        assert_eq!(left_out(asked(true, true, true), &["cpus"], &all), ["cpus"]);
        assert!(left_out(asked(true, false, true), &["cpus"], &all).is_empty());
        let rootless =
            SystemInfo { cgroup_driver: Some(SystemInfoCgroupDriverEnum::NONE), ..Default::default() };
        assert_eq!(without(&rootless), ["memory", "cpus", "pids"]);
        let partly =
            SystemInfo { memory_limit: Some(true), cpu_cfs_quota: Some(false), ..Default::default() };
        assert_eq!(without(&partly), ["cpus"]);
    }
}
