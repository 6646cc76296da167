//! End to end: the shipped binaries as processes, against real back ends. One binary, one file for each group of scenarios.

mod agents_by_tls;
mod changes;
mod clocks;
mod command_line;
mod cut;
mod daemon_away;
mod database_away;
mod demo;
mod disk_full;
mod docker;
mod explaining;
mod fleet;
mod following;
mod handover;
mod harness;
mod harness_holds;
mod images;
mod killed;
mod logs;
mod lost;
mod main_job;
mod masters;
mod reload;
mod schedulers;
mod secrets;
mod steps;
