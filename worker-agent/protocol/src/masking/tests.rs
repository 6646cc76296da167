//! Against the plainest masker there is: the whole text, every occurrence.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{Channel, StreamFrame, StreamId};

fn naive(text: &[u8], masks: &Masks) -> Vec<u8> {
    let mut out = text.to_vec();
    for pattern in masks.0.all().iter() {
        for at in 0..text.len() {
            if text[at..].starts_with(&pattern.bytes) {
                out[at..at + pattern.bytes.len()].fill(b'*');
            }
        }
    }
    out
}

fn in_chunks<'a>(text: &[u8], masks: &Masks, cuts: impl IntoIterator<Item = &'a usize>) -> Vec<u8> {
    let (mut masker, mut out, mut at) = (Masker::new(masks.clone()), Vec::new(), 0);
    for cut in cuts {
        let to = (at + cut).min(text.len());
        masker.push(&text[at..to], &mut out);
        assert_eq!(out.len() + masker.held_back(), to, "length is kept");
        at = to;
    }
    masker.push(&text[at..], &mut out);
    masker.finish(&mut out);
    assert_eq!(masker.held_back(), 0);
    out
}

#[test]
fn every_split_of_a_known_text() {
    let masks = Masks::new(["abab", "babc", "cc", "hunter2", "line one\nsecond line\nxy"]);
    let text: &[u8] =
        b"xababcabab hunterhunter2 abababcc line one\r\n  second line xy\nline one\nsecond line\nxy cc";
    let expected = naive(text, &masks);
    assert_eq!(
        String::from_utf8_lossy(&expected),
        "x********* hunter******* ******** ********\r\n  *********** xy\n*********************** **"
    );
    for first in 0..text.len() {
        for second in 0..text.len() - first {
            assert_eq!(in_chunks(text, &masks, &[first, second]), expected, "split {first} {second}");
        }
    }
    assert_eq!(in_chunks(text, &masks, &vec![1; text.len()]), expected);
}

#[test]
fn a_restart_in_the_middle_of_overlapping_secrets_shows_nothing() {
    let masks = Masks::new(["abab"]);
    let (mut masker, mut out) = (Masker::new(masks.clone()), Vec::new());
    masker.push(b"abab", &mut out);
    // The end `ab` may begin another occurrence: a cut there would lose that it is masked.
    assert_eq!((out.len(), masker.held_back()), (0, 4));
    masker.push(b"X", &mut out);
    assert_eq!(out, b"****X");
}

#[test]
fn what_is_held_back_is_short_even_where_secrets_chain() {
    let masks = Masks::new(["00"]);
    let (mut masker, mut out) = (Masker::new(masks), Vec::new());
    for _ in 0..1000 {
        masker.push(b"000", &mut out);
        assert!(masker.held_back() <= 3);
    }
    masker.finish(&mut out);
    assert_eq!(out, vec![b'*'; 3000]);
}

#[test]
fn single_bytes_short_lines_and_empty_values() {
    assert!(Masks::new(["", ""]).is_empty());
    assert_eq!(Masks::new(["x"]).mask_text("axbx"), "a*b*");
    assert_eq!(Masks::new(["pw\n"]).mask_text("pw is pw"), "** is **");
    assert_eq!(Masks::new(["one\nfour"]).mask_text("one four"), "one ****");
}

#[test]
fn concealed_bytes_are_matched_on() {
    let (mut masker, mut out) = (Masker::new(Masks::new(["secret"])), Vec::new());
    masker.push(b"a sec", &mut out);
    assert_eq!(out, b"a ");
    masker.conceal(&mut out);
    assert_eq!((out.as_slice(), masker.held_back()), (b"a ***".as_slice(), 0));
    masker.push(b"ret b", &mut out);
    assert_eq!(out, b"a ****** b");
}

#[test]
fn a_channel_that_holds_back_does_not_stop_the_others_for_ever() {
    let mut masker = StreamMasker::new(&Masks::new(["secret"]), 0);
    let frame = |channel, offset, bytes: Vec<u8>| StreamFrame {
        stream: StreamId(1),
        channel,
        offset,
        at_us: offset,
        bytes: bytes.into(),
    };
    assert!(masker.push(frame(Channel::Out, 0, b"sec".to_vec())).unwrap().is_empty());
    let (mut offset, mut got) = (3, Vec::new());
    while offset < 3 << 20 {
        got.extend(masker.push(frame(Channel::Err, offset, vec![b'e'; 1 << 18])).unwrap());
        offset += 1 << 18;
    }
    assert_eq!(got[0].bytes, Bytes::from_static(b"***"));
    assert_eq!(masker.settled_to(), offset);
    let rest = masker.push(frame(Channel::Out, offset, b"ret!".to_vec())).unwrap();
    assert_eq!(rest[0].bytes, Bytes::from_static(b"***!"));
}

#[test]
fn gaps_are_errors_and_overlaps_are_not() {
    let mut masker = StreamMasker::new(&Masks::default(), 10);
    let frame = |offset, bytes: &'static [u8]| StreamFrame {
        stream: StreamId(1),
        channel: Channel::Out,
        offset,
        at_us: 0,
        bytes: Bytes::from_static(bytes),
    };
    assert_eq!(masker.push(frame(11, b"x")), Err(GapError { expected: 10, got: 11 }));
    let got = masker.push(frame(8, b"abcd")).unwrap();
    assert_eq!((got[0].offset, &got[0].bytes[..]), (10, b"cd".as_slice()));
    assert!(masker.push(frame(8, b"abcd")).unwrap().is_empty());
}

fn small_text(length: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(proptest::sample::select(b"aab\n".to_vec()), 0..length)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_split_gives_what_the_whole_text_gives(
        text in small_text(60),
        values in proptest::collection::vec(small_text(7), 0..4),
        cuts in proptest::collection::vec(0usize..9, 0..30),
    ) {
        let masks = Masks::new(&values);
        prop_assert_eq!(in_chunks(&text, &masks, &cuts), naive(&text, &masks));
    }

    #[test]
    fn many_values_are_found_as_few_are(
        text in small_text(60),
        values in proptest::collection::vec(small_text(9), 60..90),
        cuts in proptest::collection::vec(0usize..9, 0..30),
    ) {
        let masks = Masks::new(&values);
        prop_assert_eq!(in_chunks(&text, &masks, &cuts), naive(&text, &masks));
    }

    #[test]
    fn a_masker_that_starts_afresh_where_another_stopped_goes_on_alike(
        text in small_text(60),
        values in proptest::collection::vec(small_text(7), 1..4),
        cuts in proptest::collection::vec(0usize..9, 0..30),
    ) {
        let masks = Masks::new(&values);
        let longest = masks.0.all().iter().map(|p| p.bytes.len()).max().unwrap_or(0);
        let (mut out, mut at) = (Vec::new(), 0);
        for cut in cuts {
            // A new one each time, from where the output is settled.
            let mut masker = Masker::new(masks.clone());
            let settled = out.len();
            at = (at + cut).min(text.len()).max(settled);
            masker.push(&text[settled..at], &mut out);
            prop_assert!(masker.held_back() <= 2 * longest);
        }
        let mut last = Masker::new(masks.clone());
        let settled = out.len();
        last.push(&text[settled..], &mut out);
        last.finish(&mut out);
        prop_assert_eq!(out, naive(&text, &masks));
    }

    #[test]
    fn channels_are_masked_apart_and_keep_their_places(
        pieces in proptest::collection::vec((0u8..3, small_text(9)), 0..20),
        values in proptest::collection::vec(small_text(7), 0..4),
    ) {
        let masks = Masks::new(&values);
        let mut masker = StreamMasker::new(&masks, 0);
        let mut whole = [Vec::new(), Vec::new(), Vec::new()];
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for (channel, bytes) in pieces.into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
            let offset = sent.len() as u64;
            sent.extend(std::iter::repeat_n(channel, bytes.len()));
            whole[usize::from(channel)].extend_from_slice(&bytes);
            let channel = Channel::from_u8(channel).unwrap();
            got.extend(masker.push(StreamFrame { stream: StreamId(1), channel, offset, at_us: offset, bytes: bytes.into() }).unwrap());
        }
        got.extend(masker.finish(StreamId(1)));
        let mut masked = [Vec::new(), Vec::new(), Vec::new()];
        let mut at = 0;
        for frame in got {
            prop_assert_eq!(frame.offset, at);
            prop_assert!(frame.at_us <= frame.offset);
            at = frame.end();
            prop_assert!(sent[frame.offset as usize..at as usize].iter().all(|c| *c == frame.channel as u8));
            masked[frame.channel as usize].extend_from_slice(&frame.bytes);
        }
        prop_assert_eq!(at as usize, sent.len());
        for (masked, whole) in masked.iter().zip(&whole) {
            prop_assert_eq!(masked, &naive(whole, &masks));
        }
    }
}
