use proptest::prelude::*;
use rouse_agent_protocol::{Frame, decode_frame};

use super::*;

fn spool() -> Spool {
    opened(Spool::new(SpoolFile::new(Some(tempfile::tempfile().unwrap()))))
}

fn opened(mut spool: Spool) -> Spool {
    [1, 2, 3, 9].into_iter().for_each(|stream| spool.open(StreamId(stream)));
    spool
}

/// What goes out, as the frame that it stands for.
fn next(spool: &mut Spool) -> Option<StreamFrame> {
    Some(match spool.next_frame().unwrap()? {
        Outgoing::Frame(bytes) => match decode_frame(bytes).unwrap() {
            Frame::Plain(frame) => frame,
            Frame::Packed(_) => panic!("the spool packs nothing"),
        },
        Outgoing::Lines(frame, lines) => {
            assert_eq!(packable(&frame.bytes), (frame.bytes.len(), lines));
            assert!((PACKED_BYTES..=MAX_FRAME_BYTES).contains(&frame.bytes.len()));
            frame
        }
    })
}

fn received(spool: &mut Spool, into: &mut Vec<u8>) {
    while let Some(frame) = next(spool) {
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
    assert!(next(&mut spool).is_some() && next(&mut spool).is_none());
    assert!(!spool.durable(stream, 4), "the piece stays as long as a part of it is wanted");
    spool.rewind();
    let frame = next(&mut spool).unwrap();
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
    assert_eq!(next(&mut spool), None);
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
    let order: Vec<i64> = std::iter::from_fn(|| next(&mut spool)).map(|f| f.stream.0).collect();
    assert_eq!(order, [1, 2, 1, 2, 1]);
}

#[test]
fn what_waits_long_goes_as_whole_lines() {
    let (mut spool, stream) = (spool(), StreamId(1));
    spool.set_packed(true);
    let text: Vec<u8> =
        (0..20_000).flat_map(|n| format!("line {n} of a busy program\n").into_bytes()).collect();
    spool.push(stream, Channel::Out, 1, b"a li");
    assert_eq!(next(&mut spool).unwrap().bytes, b"a li".as_slice());
    spool.push(stream, Channel::Out, 2, b"ne\n");
    for part in text.chunks(50_001) {
        spool.push(stream, Channel::Out, 3, part);
    }
    assert_eq!(next(&mut spool).unwrap().bytes, b"ne\n".as_slice(), "what is left of a line goes first");
    let mut lines = 0;
    while let Some(Outgoing::Lines(_, more)) = spool.next_frame().unwrap() {
        lines += more;
    }
    assert!(lines > 19_000, "{lines}");
    let mut got = Vec::new();
    spool.rewind();
    received(&mut spool, &mut got);
    assert!(got == [b"a line\n".as_slice(), &text].concat());
}

#[test]
fn colours_go_as_they_are() {
    let (mut spool, stream) = (spool(), StreamId(1));
    spool.set_packed(true);
    let text = b"\x1b[32mgreen\x1b[0m\n".repeat(20_000);
    text.chunks(65_536).for_each(|part| spool.push(stream, Channel::Pty, 1, part));
    while let Some(out) = spool.next_frame().unwrap() {
        assert!(matches!(out, Outgoing::Frame(_)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the order of writing, sending, acks and reconnects: the receiver has the text, with no gap.
    #[test]
    fn nothing_is_lost(steps in proptest::collection::vec((0u8..5, 1usize..200_000), 0..120), packed: bool) {
        let (mut spool, stream) = (spool(), StreamId(9));
        spool.set_packed(packed);
        let (mut sent, mut got) = (Vec::<u8>::new(), Vec::new());
        for (what, size) in steps {
            match what {
                0 | 1 => {
                    let piece: Vec<u8> = (0..size).map(|i| (sent.len() + i) as u8).collect();
                    spool.push(stream, Channel::ALL[size % 3], 1, &piece);
                    sent.extend(piece);
                }
                2 => {
                    let piece: Vec<u8> = b"some words of a line\n".iter().copied().cycle().take(size).collect();
                    spool.push(stream, Channel::Out, 1, &piece);
                    sent.extend(piece);
                }
                3 => { spool.durable(stream, (got.len().min(size)) as u64); }
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
