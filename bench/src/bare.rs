//! The same work without anybody's help: what the machine can do at most.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Programs that are started and waited for each second, by `threads` at once. The standard library takes posix_spawn where a command asks for
/// nothing special, as here.
pub fn spawns(threads: usize, time: Duration) -> Result<f64> {
    let began = Instant::now();
    let counts = std::thread::scope(|scope| {
        let each = (0..threads).map(|_| {
            scope.spawn(move || -> Result<u64> {
                let mut count = 0;
                while began.elapsed() < time {
                    let status =
                        Command::new("/bin/true").status().context("/bin/true could not be started")?;
                    ensure!(status.success(), "/bin/true: {status}");
                    count += 1;
                }
                Ok(count)
            })
        });
        let running: Vec<_> = each.collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("it does not panic"))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(counts.iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64())
}

/// MB/s of the zstd library over a file in blocks of 256 KiB at level 3, by `threads` at once, each over all of it.
pub fn compression(file: &Path, threads: usize) -> Result<f64> {
    let text = std::fs::read(file)?;
    let text = &text;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(move || -> Result<()> {
                    let mut compressor = zstd::bulk::Compressor::new(3)?;
                    let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(256 * 1024));
                    for block in text.chunks(256 * 1024) {
                        packed.clear();
                        compressor.compress_to_buffer(block, &mut packed)?;
                    }
                    Ok(())
                })
            })
            .collect();
        running.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    Ok((text.len() * threads) as f64 / 1e6 / began.elapsed().as_secs_f64())
}
