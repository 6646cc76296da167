//! Readers, alone and many at once, while a log grows.

use super::*;
use proptest::prelude::*;

/// What a reader of lines must see, from the frames by the plainest means there are.
fn expected(frames: &[(Channel, Vec<u8>)]) -> Vec<(Channel, Vec<u8>)> {
    let mut open: HashMap<Channel, (usize, Vec<u8>)> = HashMap::new();
    let mut lines = Vec::new();
    for (n, (channel, bytes)) in frames.iter().enumerate() {
        for byte in bytes {
            if *byte == b'\n' {
                lines.push((*channel, open.remove(channel).unwrap_or_default().1));
            } else {
                open.entry(*channel).or_insert((n, Vec::new())).1.push(*byte);
            }
        }
    }
    let mut rest: Vec<_> = open.into_iter().collect();
    rest.sort_by_key(|(_, (n, _))| *n);
    lines.extend(rest.into_iter().map(|(channel, (_, line))| (channel, line)));
    lines
}

fn brief(lines: &[Line]) -> Vec<(Channel, Vec<u8>)> {
    lines.iter().map(|l| (l.channel, l.bytes.clone())).collect()
}

async fn send_frames(bench: &Bench, log: LogId, frames: &[(Channel, Vec<u8>)]) -> u64 {
    let mut offset = 0;
    for (channel, bytes) in frames {
        bench.send(log, *channel, offset, bytes).await;
        offset += bytes.len() as u64;
    }
    offset
}

fn mixed(lines: usize) -> Vec<(Channel, Vec<u8>)> {
    let text = some_text(lines * 60);
    let sizes = [1usize, 59, 700, 13, 4000, 90];
    let (mut rest, mut frames, mut n) = (&text[..], Vec::new(), 0);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(sizes[n % sizes.len()].min(rest.len()));
        let channel = if n % 5 == 3 { Channel::Err } else { Channel::Out };
        frames.push((channel, now.to_vec()));
        (rest, n) = (later, n + 1);
    }
    frames
}

#[tokio::test]
async fn readers_that_come_at_any_time_see_every_line_once() {
    let bench = Bench::new(small()).await;
    let log = bench.begin(1, no_masks()).await;
    let frames = mixed(10_000);
    let all = expected(&frames);
    let mut readers = Vec::new();
    let mut offset = 0;
    for (n, (channel, bytes)) in frames.iter().enumerate() {
        bench.send(log, *channel, offset, bytes).await;
        offset += bytes.len() as u64;
        if n % 100 == 0 {
            let from = i64::try_from(n % 7 * 50).unwrap();
            let follow = bench.logs.follow(log, from);
            let raw = bench.logs.raw(log, n as u64, true);
            readers.push(tokio::spawn(async move {
                let lines: Vec<Line> = follow.try_collect().await.unwrap();
                let bytes: Vec<Bytes> = raw.try_collect().await.unwrap();
                (from, n, lines, bytes.concat())
            }));
        }
    }
    bench.seal(log, offset).await;
    let text: Vec<u8> = frames.iter().flat_map(|(_, b)| b.clone()).collect();
    assert!(readers.len() > 5);
    for reader in readers {
        let (from, skipped, lines, bytes) = reader.await.unwrap();
        // An open line may be said before it has ended; the last word counts.
        let ended: Vec<Line> = lines.into_iter().filter(|l| !l.open).collect();
        let numbers: Vec<i64> = ended.iter().map(|l| l.n).collect();
        assert_eq!(numbers, (from..i64::try_from(all.len()).unwrap()).collect::<Vec<_>>());
        assert_eq!(brief(&ended), all[usize::try_from(from).unwrap()..]);
        assert_eq!(bytes, text[skipped..]);
    }
}

#[tokio::test]
async fn a_line_that_grows_is_said_again_under_its_number() {
    let bench = Bench::new(small()).await;
    let log = bench.begin(1, no_masks()).await;
    let mut lines = bench.logs.follow(log, 0);
    let mut said = async || lines.next().await.map(|l| l.map(|l| (l.n, l.text(), l.open)).unwrap());
    bench.send(log, Channel::Out, 0, b"start\n10%").await;
    assert_eq!(said().await, Some((0, "start".into(), false)));
    assert_eq!(said().await, Some((1, "10%".into(), true)));
    bench.send(log, Channel::Out, 9, b"\r20%").await;
    assert_eq!(said().await, Some((1, "20%".into(), true)));
    bench.send(log, Channel::Out, 13, b"\r100%\n").await;
    assert_eq!(said().await, Some((1, "100%".into(), false)));
    bench.seal(log, 19).await;
    assert_eq!(said().await, None);
    let plain: Vec<Bytes> = bench.logs.plain(log).try_collect().await.unwrap();
    assert_eq!(plain.concat(), b"start\n100%\n");
}

#[tokio::test]
async fn the_tail_is_there_before_and_after_the_end() {
    let bench = Bench::new(small()).await;
    let log = bench.begin(1, no_masks()).await;
    let text = some_text(300_000);
    send_all(&bench, log, &text, 0).await;
    let batch = bench.logs.seal(log, 300_000, None).await.unwrap();
    let before = bench.logs.plain_tail(log, 1000).await.unwrap();
    bench.store.commit(batch).await.unwrap();
    let after = bench.logs.plain_tail(log, 1000).await.unwrap();
    assert_eq!(before, after);
    assert!(before.len() <= 1000 && before.len() > 900 && !before.contains('\x1b'), "{before}");
    let whole: Vec<Bytes> = bench.logs.plain(log).try_collect().await.unwrap();
    assert!(String::from_utf8(whole.concat()).unwrap().ends_with(&after));
}

#[tokio::test]
async fn a_reader_goes_on_while_its_segments_are_joined() {
    let bench = Bench::new(Limits { compact_at: 1_000_000, ..small() }).await;
    let log = bench.begin(1, no_masks()).await;
    let text = some_text(1_500_000);
    for end in (1..=10).map(|n| n * 150_000) {
        send_all(&bench, log, &text[..end], end - 150_000).await;
        bench.until_durable(log, end as u64).await;
    }
    bench.seal(log, 1_500_000).await;
    let old = bench.store.segments(log).await.unwrap().len();
    let bench = bench.restarted(small());
    let mut raw = bench.logs.raw(log, 0, false);
    let mut read = raw.next().await.unwrap().unwrap().to_vec();
    bench.logs.compact(log).await.unwrap();
    assert!(bench.store.segments(log).await.unwrap().len() < old);
    while let Some(bytes) = raw.next().await {
        read.extend_from_slice(&bytes.unwrap());
    }
    assert!(read == text);
    assert_eq!(bench.keys().await.len(), bench.store.segments(log).await.unwrap().len());
}

fn frames_strategy() -> impl Strategy<Value = Vec<(Channel, Vec<u8>)>> {
    let piece = prop_oneof![
        4 => Just(b"some words\n".to_vec()),
        2 => Just(b"no end ".to_vec()),
        1 => Just(b"\n\n\n".to_vec()),
        1 => Just(b"\x1b[1;32mgreen\n".to_vec()),
        1 => Just(vec![b'.'; 3000]),
    ];
    let channel = prop_oneof![Just(Channel::Out), Just(Channel::Err)];
    proptest::collection::vec((channel, piece), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_range_of_lines_is_the_same_wherever_the_log_lies(frames in frames_strategy(), from in 0i64..200, limit in 1usize..50) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let limits = Limits { segment_bytes: 2_000, inline_bytes: 500, compacted_bytes: 1_000, ..small() };
            let bench = Bench::new(limits.clone()).await;
            let log = bench.begin(1, no_masks()).await;
            let end = send_frames(&bench, log, &frames).await;
            let all = expected(&frames);
            let start = usize::try_from(from).unwrap().min(all.len());
            let wanted = &all[start..(start + limit).min(all.len())];
            let whole = bench.logs.lines(log, 0, usize::MAX).await.unwrap().lines;
            let check = async |bench: &Bench| {
                let lines = bench.logs.lines(log, from, limit).await.unwrap().lines;
                // 16 KiB lines do not come up here: 3,000 dots five times would.
                if all.iter().all(|(_, l)| l.len() <= super::super::lines::MAX_LINE) {
                    assert_eq!(brief(&lines), wanted);
                    let texts: Vec<String> = lines.iter().map(Line::text).collect();
                    let alike: Vec<String> = whole.iter().skip(start).take(limit).map(Line::text).collect();
                    assert_eq!(texts, alike);
                }
            };
            check(&bench).await;
            bench.until_durable(log, end).await;
            check(&bench).await;
            bench.seal(log, end).await;
            check(&bench).await;
            bench.logs.compact(log).await.unwrap();
            check(&bench).await;
        });
    }
}
