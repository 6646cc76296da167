use proptest::prelude::*;
use rouse_agent_protocol::decode_frame;

use super::*;

fn spool() -> Spool {
    opened(Spool::new(SpoolFile::new(Some(tempfile::tempfile().unwrap()))))
}

fn opened(mut spool: Spool) -> Spool {
    [1, 2, 3, 9].into_iter().for_each(|stream| spool.open(StreamId(stream)));
    spool
}

fn received(spool: &mut Spool, into: &mut Vec<u8>) {
    while let Some(frame) = spool.next_frame().unwrap() {
        let frame = decode_frame(frame).unwrap();
        assert!(frame.offset <= into.len() as u64, "no gap");
        if let Some(frame) = frame.trimmed_to(into.len() as u64) {
            into.extend_from_slice(&frame.bytes);
        }
    }
}

#[test]
fn memory_then_file_then_no_room_and_back() {
    let (mut spool, stream) = (spool(), StreamId(3));
    spool.set_disk_bytes(Some(1 << 20));
    let mut sent = Vec::new();
    while spool.has_room() {
        let piece = vec![sent.len() as u8 ^ 0x5a; 100_000];
        spool.push(stream, Channel::Out, 1, &piece);
        sent.extend(piece);
    }
    assert!(
        sent.len() > MEMORY_BYTES + (1 << 20) - 200_000 && sent.len() < MEMORY_BYTES + (1 << 20) + 200_000
    );
    let mut got = Vec::new();
    received(&mut spool, &mut got);
    assert!(got == sent);
    assert!(!spool.has_room());
    assert!(spool.durable(stream, sent.len() as u64 / 2));
    assert!(spool.has_room() && spool.memory < MEMORY_BYTES);
    assert!(spool.durable(stream, u64::MAX), "a number past the end is the end");
    assert_eq!((spool.memory, spool.file.used(), spool.end_of(stream)), (0, 0, sent.len() as u64));
    assert_eq!(spool.reports().iter().find(|r| r.stream == stream).unwrap().from, sent.len() as u64);
}

#[test]
fn a_new_connection_begins_where_the_master_is() {
    let (mut spool, stream) = (spool(), StreamId(3));
    spool.push(stream, Channel::Out, 1, b"0123456789");
    assert!(spool.next_frame().unwrap().is_some() && spool.next_frame().unwrap().is_none());
    assert!(!spool.durable(stream, 4), "the piece stays as long as a part of it is wanted");
    spool.rewind();
    let frame = decode_frame(spool.next_frame().unwrap().unwrap()).unwrap();
    assert_eq!((frame.offset, &frame.bytes[..]), (4, b"456789".as_slice()));
}

#[test]
fn without_a_file_memory_is_the_bound() {
    let mut spool = opened(Spool::new(SpoolFile::new(None)));
    let mut pushed = 0;
    while spool.has_room() {
        spool.push(StreamId(1), Channel::Err, 1, &[7; 65_536]);
        pushed += 65_536;
    }
    assert!(pushed <= MEMORY_BYTES + 65_536);
    spool.remove(StreamId(1));
    assert!(spool.has_room() && spool.memory == 0);
    spool.push(StreamId(1), Channel::Err, 1, b"nobody wants it");
    assert_eq!(spool.next_frame().unwrap(), None);
}

#[test]
fn single_bytes_do_not_cost_without_bound() {
    let mut spool = spool();
    let mut pushed = 0;
    while spool.has_room() {
        spool.push(StreamId(1), if pushed % 2 == 0 { Channel::Out } else { Channel::Err }, 1, b"x");
        pushed += 1;
    }
    assert!(spool.memory <= 2 * MEMORY_BYTES + PIECE_OVERHEAD);
}

#[test]
fn streams_take_turns() {
    let mut spool = spool();
    for stream in [1, 1, 1, 2, 2] {
        spool.push(StreamId(stream), Channel::Out, 1, b"x");
    }
    let order: Vec<i64> = std::iter::from_fn(|| spool.next_frame().unwrap())
        .map(|f| decode_frame(f).unwrap().stream.0)
        .collect();
    assert_eq!(order, [1, 2, 1, 2, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the order of writing, sending, acks and reconnects: the receiver has the text, with no gap.
    #[test]
    fn nothing_is_lost(steps in proptest::collection::vec((0u8..4, 1usize..200_000), 0..120)) {
        let (mut spool, stream) = (spool(), StreamId(9));
        let (mut sent, mut got) = (Vec::<u8>::new(), Vec::new());
        for (what, size) in steps {
            match what {
                0 | 1 => {
                    let piece: Vec<u8> = (0..size).map(|i| (sent.len() + i) as u8).collect();
                    spool.push(stream, Channel::ALL[size % 3], 1, &piece);
                    sent.extend(piece);
                }
                2 => { spool.durable(stream, (got.len().min(size)) as u64); }
                _ => { spool.rewind(); received(&mut spool, &mut got); }
            }
        }
        spool.rewind();
        received(&mut spool, &mut got);
        prop_assert!(got == sent);
        spool.durable(stream, got.len() as u64);
        prop_assert_eq!((spool.memory, spool.file.used()), (0, 0));
    }
}
