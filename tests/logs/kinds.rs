//! What a log gives back of what was printed.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{objects_of, texts};
use crate::harness::Bench;

const CONFIG: &str = r#"
pools:
  here: {local: {}}
builders:
  kinds:
    steps:
      - {name: binary, run: 'head -c 300000 /dev/urandom | tee made'}
      - {name: sum, run: 'sha256sum < made'}
      - {name: not utf8, run: [printf, '\377\376 \303 ok\nnext\n']}
      - {name: no end, run: [printf, 'one\ntwo']}
      - {name: progress, run: [printf, 'get\r10%%\r100%%\ndone\n']}
      - {name: colours, run: [printf, '\033[1;31mred\nstill\033[0m\n\033]0;title\007plain\033[2K\n']}
      - {name: nothing, run: 'true'}
      - {name: many, run: 'i=0; while [ $i -lt 10000 ]; do echo "line $i"; i=$((i + 1)); done'}
      - {name: both, run: 'echo out; sleep 0.2; echo err >&2; sleep 0.2; echo out again'}
      - {name: fine, run: 'echo nothing to see'}
      - {name: bad, run: 'echo begin; echo "x.c:3: error: no such thing"; echo end; exit 2'}
"#;

#[test]
fn output_of_every_kind_is_kept_byte_by_byte_and_shown_as_text() {
    let bench = Bench::new(CONFIG);
    let api = &bench.api;
    let build = bench.run("kinds");
    build.must_be("failure");
    let lines = |step: &str, query: &str| api.get(&format!("/logs/{}/lines{query}", build.log_of(step)));
    let plain = |step: &str| {
        String::from_utf8(api.bytes(&format!("/logs/{}/plain", build.log_of(step))))
            .expect("plain text is UTF-8")
    };
    for step in build.steps() {
        assert_eq!(step["logs"][0]["sealed"], true, "{step:#}");
        let bytes = build.bytes(step["name"].as_str().unwrap()).len();
        assert_eq!(step["logs"][0]["bytes"], bytes, "{step:#}");
    }

    let binary = build.bytes("binary");
    assert_eq!(format!("{}  -\n", hex::encode(Sha256::digest(&binary))), build.text("sum"));
    // Any bytes become valid text.
    let shown = lines("binary", "?limit=10000");
    assert_eq!(shown["end"], true);
    assert_eq!(texts(&shown).len(), build.step("binary")["logs"][0]["lines"]);
    let part = api.bytes(&format!("/logs/{}/raw?from=299990", build.log_of("binary")));
    assert_eq!(part, binary[299_990..]);

    assert_eq!(build.bytes("not utf8"), b"\xff\xfe \xc3 ok\nnext\n");
    assert_eq!(texts(&lines("not utf8", "")), ["\u{fffd}\u{fffd} \u{fffd} ok", "next"]);
    assert_eq!(build.bytes("no end"), b"one\ntwo");
    assert_eq!(texts(&lines("no end", "")), ["one", "two"]);
    assert_eq!(plain("no end"), "one\ntwo");
    assert_eq!(build.bytes("progress"), b"get\r10%\r100%\ndone\n");
    assert_eq!(texts(&lines("progress", "")), ["100%", "done"]);
    assert_eq!(plain("progress"), "100%\ndone\n");

    let colours = lines("colours", "");
    assert_eq!(texts(&colours), ["\u{1b}[1;31mred", "\u{1b}[1;31mstill\u{1b}[0m", "plain"]);
    // A line is complete by itself, whichever one asks for.
    assert_eq!(texts(&lines("colours", "?from=1&limit=1")), ["\u{1b}[1;31mstill\u{1b}[0m"]);
    assert_eq!(plain("colours"), "red\nstill\nplain\n");

    let nothing = lines("nothing", "");
    assert_eq!((texts(&nothing).len(), &nothing["end"]), (0, &json!(true)));
    assert!(build.bytes("nothing").is_empty() && plain("nothing").is_empty());

    assert_eq!(build.step("many")["logs"][0]["lines"], 10_000);
    assert_eq!(texts(&lines("many", "?from=4998&limit=3")), ["line 4998", "line 4999", "line 5000"]);
    assert_eq!(lines("many", "?from=4998&limit=3")["next"], 5001);
    assert_eq!(texts(&lines("many", "?from=-2")), ["line 9998", "line 9999"]);
    assert_eq!(texts(&lines("many", "?limit=10000")).len(), 10_000);
    assert_eq!(texts(&lines("many", "?from=20000")).len(), 0);
    let refused = api.try_get(&format!("/logs/{}/lines?limit=0", build.log_of("many"))).unwrap_err();
    assert_eq!(refused.status, 400, "{refused:?}");

    let both = lines("both", "");
    let channels: Vec<&str> =
        both["lines"].as_array().unwrap().iter().map(|l| l["channel"].as_str().unwrap()).collect();
    assert_eq!(channels, ["out", "err", "out"]);

    // Under 16 KiB a log is a part of its row, above it an object.
    assert_eq!(objects_of(&bench.master.state(), build.log_of("bad")).len(), 0);
    assert_ne!(objects_of(&bench.master.state(), build.log_of("binary")).len(), 0);

    let id = build.id().to_string();
    let failed = bench.cli(&["logs", &id, "--failed"]);
    assert!(failed.contains("→ x.c:3: error: no such thing") && failed.contains("begin"), "{failed}");
    assert!(!failed.contains("nothing to see"), "{failed}");
    assert_eq!(
        bench.cli(&["logs", &id, "--step", "colours"]),
        "red\nstill\nplain\n",
        "no terminal, no colours"
    );
    assert_eq!(bench.cli(&["logs", &id, "--step", "no end", "--raw"]), "one\ntwo");
}
