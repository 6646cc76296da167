//! What agents have packed is the same log as what comes plain.

use super::*;
use proptest::prelude::*;
use rouse_agent_protocol::PackedFrame;

fn packed(log: LogId, channel: Channel, offset: u64, bytes: &[u8]) -> PackedFrame {
    let (length, lines) = rouse_agent_protocol::packable(bytes);
    assert_eq!(length, bytes.len(), "whole lines");
    let length = u32::try_from(length).unwrap();
    let packed = zstd::bulk::compress(bytes, 1).unwrap().into();
    PackedFrame { stream: StreamId(log.0), channel, offset, at_us: offset, length, lines, packed }
}

fn lines_of(from: usize, to: usize) -> Vec<u8> {
    (from..to).flat_map(|n| format!("{n} of many lines that say much the same\n").into_bytes()).collect()
}

/// One piece of output: whether it is sent packed where it can be, its channel, and its bytes.
fn piece() -> impl Strategy<Value = (bool, Channel, Vec<u8>)> {
    let channel = prop_oneof![Just(Channel::Out), Just(Channel::Err)];
    let bytes = prop_oneof![
        (0usize..1000, 1usize..300).prop_map(|(from, n)| lines_of(from, from + n)),
        Just(b"no line end".to_vec()),
        Just(b"\x1b[31mred\n".to_vec()),
        Just(b"\n".to_vec()),
    ];
    (any::<bool>(), channel, bytes)
}

/// The lines as the API says them, and the row.
async fn read(bench: &Bench, log: LogId) -> (Vec<String>, i64, Vec<u8>) {
    let page = bench.logs.lines(log, 0, usize::MAX).await.unwrap();
    let lines = page.lines.iter().map(|l| format!("{} {:?} {}", l.n, l.channel, l.text())).collect();
    (lines, bench.logs.status(log).await.unwrap().lines, bench.raw(log).await)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn packed_or_not_the_log_is_the_same(pieces in proptest::collection::vec(piece(), 1..12), restart: bool) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new(small()).await;
            let (plain, mixed) = (bench.begin(1, no_masks()).await, bench.begin(2, no_masks()).await);
            let mut offset = 0;
            for (pack, channel, bytes) in &pieces {
                bench.send(plain, *channel, offset, bytes).await;
                let whole = rouse_agent_protocol::packable(bytes).0 == bytes.len();
                if *pack && whole {
                    bench.logs.accept(mixed, CLOCK, packed(mixed, *channel, offset, bytes)).await.unwrap();
                } else {
                    bench.send(mixed, *channel, offset, bytes).await;
                }
                offset += bytes.len() as u64;
            }
            assert_eq!(read(&bench, mixed).await, read(&bench, plain).await, "while it grows");
            bench.until_durable(plain, offset).await;
            bench.until_durable(mixed, offset).await;
            if restart {
                bench = bench.restarted(small());
                bench.logs.open(plain, no_masks());
                bench.logs.open(mixed, no_masks());
                assert_eq!(read(&bench, mixed).await, read(&bench, plain).await, "after a restart");
            }
            bench.seal(plain, offset).await;
            bench.seal(mixed, offset).await;
            assert_eq!(read(&bench, mixed).await, read(&bench, plain).await, "sealed");
            assert_eq!(bench.row(mixed).await.lines, bench.row(plain).await.lines);
            bench.logs.compact(mixed).await.unwrap();
            assert_eq!(read(&bench, mixed).await, read(&bench, plain).await, "compacted");
        });
    }
}

#[tokio::test]
async fn packed_lines_are_stored_as_they_came() {
    let bench = Bench::new(small()).await;
    let log = bench.begin(1, no_masks()).await;
    let text = lines_of(0, 6000);
    let frame = packed(log, Channel::Out, 0, &text);
    bench.logs.accept(log, CLOCK, frame.clone()).await.unwrap();
    bench.until_durable(log, text.len() as u64).await;
    let key = bench.keys().await.remove(0);
    let object = bench.objects.get(&key.as_str().into()).await.unwrap().bytes().await.unwrap();
    assert!(memchr::memmem::find(&object, &frame.packed).is_some());
    let page = bench.logs.lines(log, 5998, 10).await.unwrap();
    assert_eq!(page.lines[1].plain(), "5999 of many lines that say much the same");
}

#[tokio::test]
async fn packed_lines_are_masked_and_cut_as_others() {
    let bench = Bench::new(Limits { log_bytes: 100, ..small() }).await;
    let masks = Masks::new(&["many lines".to_owned()]);
    let (masked, cut) = (bench.begin(1, masks).await, bench.begin(2, no_masks()).await);
    bench.logs.accept(masked, CLOCK, packed(masked, Channel::Out, 0, &lines_of(0, 2))).await.unwrap();
    bench.seal(masked, lines_of(0, 2).len() as u64).await;
    assert_eq!(
        bench.raw(masked).await,
        b"0 of ********** that say much the same\n1 of ********** that say much the same\n"
    );
    let text = lines_of(0, 5);
    bench.send(cut, Channel::Out, 0, &text[..10]).await;
    bench.logs.accept(cut, CLOCK, packed(cut, Channel::Out, 0, &text)).await.unwrap();
    bench.seal(cut, text.len() as u64).await;
    assert_eq!(bench.raw(cut).await, &text[..100]);
    assert!(bench.row(cut).await.note.unwrap().starts_with("truncated"));
}

/// An agent that lies harms its own log alone.
#[tokio::test]
async fn what_does_not_unpack_is_refused_or_said() {
    let bench = Bench::new(small()).await;
    let log = bench.begin(1, no_masks()).await;
    let text = lines_of(0, 3000);
    let good = packed(log, Channel::Out, 0, &text);
    let whole = u32::try_from(text.len()).unwrap();
    let other = zstd::bulk::compress(&text[1..], 1).unwrap().into();
    let twice = [&good.packed[..], &good.packed].concat().into();
    for packed in [Bytes::from_static(b"nonsense"), good.packed.slice(..good.packed.len() - 9), other, twice]
    {
        let error = bench.logs.accept(log, CLOCK, PackedFrame { packed, ..good.clone() }).await.unwrap_err();
        assert!(matches!(error, AcceptError::Damaged { .. }), "{error}");
    }
    // From the outside all is well.
    let broken = (0..good.packed.len()).find_map(|at| {
        let mut bytes = good.packed.to_vec();
        bytes[at] ^= 0xff;
        let broken = PackedFrame { packed: bytes.into(), lines: whole, ..good.clone() };
        (pieces::is_sound(&broken) && pieces::unpacked(&broken).is_err()).then_some(broken)
    });
    let broken = broken.expect("there is such a byte");
    bench.logs.accept(log, CLOCK, broken).await.unwrap();
    let end = text.len() as u64;
    bench.until_durable(log, end).await;
    let read = bench.logs.raw(log, 0, false).try_collect::<Vec<Bytes>>().await;
    assert!(matches!(read, Err(LogError::Damaged(_))), "{read:?}");
    bench.send(log, Channel::Out, end, b"and on\n").await;
    bench.seal(log, end + 7).await;
    let last = bench.logs.raw(log, end, false).try_collect::<Vec<Bytes>>().await.unwrap().concat();
    assert_eq!(last, b"and on\n");
    assert!(bench.logs.lines(log, 0, 10).await.is_err());
}
