//! Random bytes from the kernel: the key, the incarnation, the jitter of pauses.

use rustix::rand::{GetRandomFlags, getrandom};

/// Fresh random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    let mut at = 0;
    while at < N {
        // Interrupted calls and a pool that is not ready yet are asked again; nothing else can happen with valid arguments.
        at += getrandom(&mut out[at..], GetRandomFlags::empty()).unwrap_or(0);
    }
    out
}

/// Somewhere between half of `most` and all of it.
pub fn jittered(most: std::time::Duration) -> std::time::Duration {
    most.mul_f64(0.5 + 0.5 * f64::from(u16::from_ne_bytes(bytes())) / f64::from(u16::MAX))
}
