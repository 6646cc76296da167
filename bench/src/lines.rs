//! Lines as programs print them: 80 to 100 characters that compress about as a build's log does. The same in each run.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Far beyond the window of the compressor, and still in the page cache.
pub const FILE: usize = 64 << 20;

const WORDS: &[&str] = &[
    "compiling",
    "linking",
    "checking",
    "warning:",
    "unused",
    "variable",
    "crate",
    "module",
    "target",
    "release",
    "debug",
    "src/main.rs",
    "lib/parser.c",
    "include/config.h",
    "object",
    "archive",
    "test",
    "passed",
    "ignored",
    "running",
    "fetch",
    "download",
    "unpack",
    "installed",
    "package",
    "version",
    "depends",
    "resolved",
    "cache",
    "miss",
    "hit",
    "thread",
    "worker",
];

/// A small generator of our own: what it makes must not change with a library's version.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// At least `bytes` bytes of whole lines.
pub fn make(bytes: usize) -> Vec<u8> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut text = Vec::with_capacity(bytes + 128);
    let mut number = 0;
    while text.len() < bytes {
        line(&mut text, &mut random, number);
        number += 1;
    }
    text
}

fn line(text: &mut Vec<u8>, random: &mut Random, number: u64) {
    let start = text.len();
    let width = 80 + (random.next() % 21) as usize;
    // Writing to memory cannot fail.
    let _ = write!(text, "[{number:>8}] {:08x} ", random.next() as u32);
    while text.len() - start < width {
        let pick = random.next();
        if pick.is_multiple_of(7) {
            let _ = write!(text, "{:x} ", (pick >> 8) & 0xff_ffff);
        } else {
            text.extend_from_slice(WORDS[(pick >> 8) as usize % WORDS.len()].as_bytes());
            text.push(b' ');
        }
    }
    text.truncate(start + width - 1);
    text.push(b'\n');
}

/// Prints lines at a steady rate.
pub fn emit(seconds: f64, rate: u32) -> Result<()> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()));
    let pause = Duration::from_millis(100);
    let (began, end) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut out = std::io::stdout().lock();
    let mut printed = 0;
    while began.elapsed() < end {
        let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        let mut text = Vec::new();
        while printed < due {
            line(&mut text, &mut random, printed);
            printed += 1;
        }
        out.write_all(&text)?;
        out.flush()?;
        std::thread::sleep(pause);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_80_to_100_characters_and_compress_as_logs_do() {
        let text = make(1 << 20);
        for line in text.split_inclusive(|b| *b == b'\n') {
            assert!((80..=100).contains(&line.len()), "{}", String::from_utf8_lossy(line));
        }
        let packed = zstd::bulk::compress(&text[..256 * 1024], 3).unwrap().len();
        let ratio = (256.0 * 1024.0) / packed as f64;
        assert!((2.0..4.0).contains(&ratio), "{ratio}");
    }
}
