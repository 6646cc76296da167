//! Much output: the master keeps up, keeps it all, and needs little memory for it.

use std::io::Read;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::harness::{Bench, Build, Options, Scratch, processes, wait};

const TEXT: usize = 200_000_000;
const LINE: usize = 100_000_000;
const SENTENCE: &[u8] = b"the quick brown fox jumps over the lazy dog 0123456789\n";
/// Far above what it needs, far below what it would need to hold one of these logs.
const MOST_MEMORY: u64 = 400 << 20;

const CONFIG: &str = r#"
pools:
  here: {local: {}}
builders:
  text:
    steps:
      - {name: print, run: 'yes "the quick brown fox jumps over the lazy dog 0123456789" | head -c 200000000'}
  line:
    steps:
      - {name: print, run: 'head -c 100000000 /dev/zero | tr "\0" x'}
"#;

fn peak_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is there");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("it is there") * 1024
}

fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("it has a parent");
    line.trim().parse().expect("a number")
}

fn resident_memory(pid: i32) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("it runs");
    pages.split(' ').nth(1).expect("it is the second").parse::<u64>().expect("a number") * 4096
}

/// Bytes that a process has written so far.
fn written(pid: i32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("it runs");
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("the kernel counts");
    line.parse().expect("a number")
}

/// Of `begin`, and then so many bytes of the sentence over and over.
fn sum_of_text(begin: &[u8], length: usize) -> String {
    let whole: Vec<u8> = SENTENCE.iter().copied().cycle().take(SENTENCE.len() * 20_000).collect();
    let mut hash = Sha256::new();
    hash.update(begin);
    let mut left = length;
    while left > 0 {
        let now = left.min(whole.len());
        hash.update(&whole[..now]);
        left -= now;
    }
    hex::encode(hash.finalize())
}

fn downloaded(bench: &Bench, build: &Build) -> (usize, String) {
    let mut body = bench.api.open(&format!("/logs/{}/raw", build.log_of("print")));
    let (mut hash, mut size, mut piece) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        match body.read(&mut piece).expect("the download goes on") {
            0 => return (size, hex::encode(hash.finalize())),
            n => {
                hash.update(&piece[..n]);
                size += n;
            }
        }
    }
}

#[test]
fn hundreds_of_megabytes_and_endless_lines_are_taken_at_speed() {
    let bench = Bench::new(CONFIG);
    let request = bench.start("text");
    let running = bench.running(request, "the log to be there", |build| {
        build.has_step("print") && build.step("print")["logs"][0].is_object()
    });
    // One who asks for it all and reads nothing, so that everything between is full.
    let hung = bench.api.open(&format!("/logs/{}/raw?follow=true", running.log_of("print")));
    let text = bench.ended(request);
    text.must_be("success");
    drop(hung);
    let line = bench.run("line");
    line.must_be("success");
    let rate = |build: &Build, bytes: usize| {
        bytes as f64 / 1e6 / build.step("print")["seconds"].as_f64().expect("it took a time")
    };
    println!(
        "200 MB of text: {:.0} MB/s; a line of 100 MB: {:.0} MB/s",
        rate(&text, TEXT),
        rate(&line, LINE)
    );

    let began = Instant::now();
    assert_eq!(downloaded(&bench, &text), (TEXT, sum_of_text(b"", TEXT)));
    println!("downloaded and compared in {:.1} s", began.elapsed().as_secs_f64());
    let mut hash = Sha256::new();
    (0..LINE / 1_000_000).for_each(|_| hash.update(vec![b'x'; 1_000_000]));
    assert_eq!(downloaded(&bench, &line), (LINE, hex::encode(hash.finalize())));
    assert_eq!(text.step("print")["logs"][0]["lines"], TEXT / SENTENCE.len() + 1);
    // The endless line is shown in pieces that can be shown.
    let page = bench.api.get(&format!("/logs/{}/lines?from=-1&limit=1", line.log_of("print")));
    assert!(page["lines"][0]["text"].as_str().unwrap().len() <= 16 * 1024 + 4);

    let peak = peak_memory(bench.master.pid());
    println!("the master's memory at most: {} MiB", peak >> 20);
    assert!(peak < MOST_MEMORY, "the master needed {} MiB", peak >> 20);
}

#[test]
fn what_is_printed_while_the_master_is_away_waits_with_the_agent_and_its_program() {
    const MUCH: usize = 400_000_000;
    let scratch = Scratch::new();
    let gate = scratch.path().join("gate");
    let builder = format!(
        "pools: {{here: {{local: {{}}}}}}\nbuilders:\n  much:\n    steps:\n      - name: print\n        run: |\n          echo begin\n          \
         while [ ! -e {} ]; do sleep 0.05; done\n          \
         yes 'the quick brown fox jumps over the lazy dog 0123456789' | head -c {MUCH}\n",
        gate.display()
    );
    let mut bench = Bench::within(scratch, &builder, Options::default());
    let request = bench.start("much");
    let build = bench.running(request, "the step to begin", |build| {
        build.has_step("print")
            && build.step("print")["logs"][0].is_object()
            && build.text("print") == "begin\n"
    });
    bench.master.kill9();
    std::fs::write(&gate, "").unwrap();
    let head = format!("head -c {MUCH}");
    let printer = wait::until("the program to print", wait::SOON, || {
        processes::all().find(|seen| seen.command == head).map(|seen| seen.pid)
    });
    let mut last = (0, Instant::now());
    let stopped_at = wait::until("the program to be held up", wait::A_BUILD, || {
        let now = written(printer);
        if now != last.0 {
            last = (now, Instant::now());
        }
        (now > 0 && last.1.elapsed() > Duration::from_secs(1)).then_some(now)
    });
    assert!(stopped_at < MUCH as u64, "nothing held it up");
    // The program's shell is the agent's child.
    let memory = resident_memory(parent(parent(printer)));
    println!(
        "the program was held up after {} MB; the agent's memory: {} MiB",
        stopped_at / 1_000_000,
        memory >> 20
    );
    assert!(memory < 64 << 20, "the agent holds {} MiB", memory >> 20);

    bench.master.run();
    let ended = bench.ended(request);
    ended.must_be("success");
    assert_eq!(ended.id(), build.id());
    assert_eq!(downloaded(&bench, &ended), (MUCH + 6, sum_of_text(b"begin\n", MUCH)));
}
