//! What comes over the agent link, either way, and the join document.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rouse_agent_protocol::{
    CommandState, Frame, JoinDocument, MAX_MESSAGE_BYTES, Outcome, ToMaster, decode_frame, decode_to_agent,
    decode_to_master, encode, encode_frame, encode_packed,
};

fuzz_target!(|data: &[u8]| {
    if let Ok(frame) = decode_frame(Bytes::copy_from_slice(data)) {
        let again = match &frame {
            Frame::Plain(frame) => encode_frame(frame),
            Frame::Packed(frame) => encode_packed(frame),
        };
        assert_eq!(&again[..], data);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    // What is understood can be said again; not to the last digit, where it is a fraction.
    if let Ok(Some(message)) = decode_to_agent(text) {
        let again = encode(&message);
        assert!(decode_to_agent(&again).expect("it was said by us").is_some());
    }
    if let Ok(Some(message)) = decode_to_master(text) {
        let again = encode(&message);
        assert!(decode_to_master(&again).expect("it was said by us").is_some());
        match message {
            ToMaster::Finished { outcome, .. } => capped(*outcome),
            ToMaster::Hello(hello) => {
                let _ = hello.beyond_caps();
                for report in hello.commands {
                    if let CommandState::Finished(outcome) = report.state {
                        capped(*outcome);
                    }
                }
            }
            ToMaster::Started { .. } | ToMaster::Drained {} | ToMaster::Heartbeat {} => {}
        }
    }
    if let Ok(join) = serde_json::from_str::<JoinDocument>(text) {
        let again: JoinDocument = serde_json::from_str(&encode(&join)).expect("it was written by us");
        assert_eq!(again.endpoints, join.endpoints);
    }
});

fn capped(outcome: Outcome) {
    let mut kept = outcome.capped();
    assert!(kept.texts_mut().all(|text| text.len() <= MAX_MESSAGE_BYTES));
    assert_eq!(kept.clone().capped(), kept);
}
