//! Files that steps keep, bring and read: artifacts and properties.

use super::bench;
use crate::harness::{Bench, wait};

const PROPERTIES: &str = r#"
  given:
    steps:
      - name: write
        run: |
          printf '{"version": "1.2", "count": 3, "list": [1, 2]}' > a.json
          printf '# comment\nname = with spaces\nlevel=4\n' > b.env
      - {name: json, properties: {from: a.json}}
      - {name: lines, properties: {from: b.env}}
      - {name: one, properties: {output: 'echo "noise" >&2; echo v-{{ props.version }}', as: label}}
      - {name: several, properties: {output: [printf, '{"arch": "amd64"}']}}
      - {name: use, run: [printf, '%s|', "{{ props.name }}", "{{ props.count + 1 }}", "{{ props.label }}", "{{ props.arch }}", "{{ props.list | join('-') }}"]}
      - {name: 'yes', run: 'true', if: 'props.count == 3 and props.level == "4"'}
      - {name: 'no', run: 'true', if: 'props.arch != "amd64"'}
  broken:
    steps:
      - {name: write, run: 'echo "{nonsense" > a.json'}
      - {name: json, properties: {from: a.json}}
  absent:
    steps:
      - {name: none, properties: {from: a.json}}
  large:
    steps:
      - {name: much, properties: {output: 'head -c 300000 /dev/zero | tr "\\0" x', as: much}}
"#;

#[test]
fn properties_come_from_files_and_output_and_steer_later_steps() {
    let bench = bench(PROPERTIES);
    let requests = ["given", "broken", "absent", "large"].map(|name| bench.start(name));
    let [given, broken, absent, large] = requests.map(|request| bench.ended(request));
    given.must_be("success");
    assert_eq!(given.text("use"), "with spaces|4|v-1.2|amd64|1-2|");
    assert_eq!(given.end_of("yes").0, "success");
    assert_eq!(given.end_of("no").0, "skipped");
    assert_eq!(given.property("count"), 3);
    assert_eq!(given.property("label"), "v-1.2", "what goes to stderr is no part of a value");
    broken.must_be("failure");
    assert!(
        broken.end_of("json").1.contains("a.json") && broken.end_of("json").1.contains("JSON"),
        "{:#}",
        broken.detail
    );
    absent.must_be("failure");
    assert!(absent.end_of("none").1.contains("a.json"), "{:#}", absent.detail);
    large.must_be("failure");
    assert!(large.end_of("much").1.contains("longer than"), "{:#}", large.detail);
    assert!(large.end_of("much").1.len() < 1_000, "{}", large.end_of("much").1.len());
}

const ARTIFACTS: &str = r#"
pools:
  here: {local: {}, max: 3, reuse: {builds: 100, idle: 5m}}
builders:
  make:
    steps:
      - name: write
        run: |
          mkdir -p dist/sub
          printf 'first' > dist/a.deb
          head -c 3000000 /dev/urandom > dist/sub/b.deb
          : > 'dist/empty file.deb'
          sha256sum dist/sub/b.deb | cut -d' ' -f1
      - {name: keep, upload: {paths: "dist/**/*.deb", as: debs}}
      - {name: again, run: 'printf second > dist/a.deb'}
      - {name: replace, upload: {paths: dist/a.deb, as: debs}}
      - {name: wipe, run: 'rm -r dist'}
      - {name: fetch, download: {artifact: debs, to: back}}
      - {name: look, run: 'cd back && find . -type f | sort && cat dist/a.deb && sha256sum dist/sub/b.deb | cut -d" " -f1'}
  package:
    steps:
      - {name: empty, run: 'rm -rf back'}
      - {name: fetch, download: {artifact: debs, from: parent, to: back}}
      - {name: look, run: 'cat back/dist/a.deb'}
  orphan:
    steps:
      - {name: fetch, download: {artifact: debs, from: parent}}
  nothing:
    steps:
      - {name: fetch, download: {artifact: debs}}
  no-file:
    steps:
      - {name: keep, upload: {paths: 'none/*', as: debs}}
  odd-names:
    steps:
      - {name: write, run: 'printf x > "$(printf "bad\\377name")"'}
      - {name: keep, upload: {paths: '*name', as: debs}}
  leads-out:
    steps:
      - {name: write, run: 'ln -sf /etc/passwd out'}
      - {name: keep, upload: {paths: out, as: debs}}
schedulers:
  by-hand: {force: {}, builders: make}
  then: {after: {by-hand: success}, builders: package}
"#;

#[test]
fn files_are_kept_and_come_back_here_in_the_next_build_and_to_a_person() {
    let bench = Bench::new(ARTIFACTS);
    let forced = bench.api.post("/schedulers/by-hand/force", &serde_json::json!({}));
    let names = ["orphan", "nothing", "no-file", "odd-names", "leads-out"];
    let requests = names.map(|name| bench.start(name));
    let made = bench.ended(forced["requests"][0]["id"].as_i64().unwrap());
    made.must_be("success");
    let look = made.text("look");
    let sum = made.text("write");
    assert_eq!(look, format!("./dist/a.deb\n./dist/empty file.deb\n./dist/sub/b.deb\nsecond{sum}"));
    let artifacts = made.detail["artifacts"].as_array().unwrap();
    assert_eq!(artifacts.len(), 3, "{artifacts:#?}");
    let large = artifacts.iter().find(|a| a["path"] == "dist/sub/b.deb").unwrap();
    assert_eq!(large["sha256"], sum.trim());
    assert_eq!(bench.api.bytes(&format!("/artifacts/{}/content", large["id"])).len(), 3_000_000);

    let to = bench.scratch.folder("fetched");
    bench.cli(&["build", "artifacts", &made.id().to_string(), "--set", "debs", "--to", to.to_str().unwrap()]);
    assert_eq!(std::fs::read(to.join("debs/dist/a.deb")).unwrap(), b"second");
    assert_eq!(std::fs::read(to.join("debs/dist/sub/b.deb")).unwrap().len(), 3_000_000);
    assert!(bench.cli(&["build", "artifacts", &made.id().to_string()]).contains("dist/empty file.deb"));

    let packaged =
        bench.api.until("the dependent build", "/builds?builder=package", wait::A_BUILD, |builds| {
            builds["items"].get(0).filter(|b| !b["result"].is_null()).and_then(|b| b["id"].as_i64())
        });
    let packaged = bench.build(packaged);
    packaged.must_be("success");
    assert_eq!(packaged.text("look"), "second");

    let [orphan, nothing, no_file, odd, out] = requests.map(|request| bench.ended(request));
    for (build, step, words) in [
        (&orphan, "fetch", "no parent"),
        (&nothing, "fetch", "debs"),
        (&no_file, "keep", "matches no file"),
        (&odd, "keep", "UTF-8"),
        (&out, "keep", "leads out"),
    ] {
        build.must_be("failure");
        assert!(build.end_of(step).1.contains(words), "{words} is not in {:#}", build.step(step));
        assert_eq!(build.step(step)["class"], "user", "{:#}", build.detail);
    }
}
