use serde_json::{Value as Json, json};

use super::super::{
    RenderError, RenderedValue, Scope, Sink, argument, check_condition, check_template, condition, document,
    environment_value, image, path, pattern, text,
};
use super::scope;

fn rendered(source: &str) -> String {
    text(source, &scope()).unwrap().text
}

fn failure(source: &str) -> String {
    text(source, &scope()).unwrap_err().to_string()
}

#[test]
fn expressions_fill_text() {
    assert_eq!(rendered("plain {} $x {%s} {#"), "plain {} $x {%s} {#");
    assert_eq!(rendered("{{ project }}/{{builder.name}}"), "shop/unit");
    assert_eq!(rendered("{{ props.count + 1 }} {{ props.fast }}"), "4 true");
    assert_eq!(rendered("{{ 'a}}b' }}{{ {'k': 'v'}.k }}"), "a}}bv");
    assert_eq!(rendered("{{ props.list | join('-') }} {{ props.list | json }}"), "a-b [\"a\",\"b\"]");
    assert_eq!(rendered("{{ props.nothing | default('x') }}"), "x");
    assert_eq!(rendered("{{ 'a' if props.nothing is defined else 'b' }}"), "b");
    assert_eq!(rendered("{% raw %}{{ .ID }}{% endraw %} {{ matrix.cc }}"), "{{ .ID }} gcc12");
    assert_eq!(rendered("{{ branch | tag }}"), "release-1.2");
}

#[test]
fn what_is_missing_is_named_with_what_there_is() {
    assert_eq!(
        failure("v{{ props.verson }}"),
        "`{{ props.verson }}`: there is no property `verson`; there are: count, evil, fast, list, version; \
         set it before, or say what to take without it: `props.verson | default(\"…\")`"
    );
    assert_eq!(failure("{{ matrix.ld }}"), "`{{ matrix.ld }}`: there is no matrix entry `ld`; there are: cc");
    assert_eq!(
        failure("{{ worker.name }}"),
        "`{{ worker.name }}`: there is no worker yet; `worker` can be used once a build runs on one"
    );
    assert!(failure("{{ props.nothing.deep }}").contains("there is no property `nothing`"));
    assert!(failure("{{ props.list }}").contains("is a list"), "{}", failure("{{ props.list }}"));
    assert!(failure("{{ none }}").contains("is nothing (null)"));
    let mut bare = scope();
    bare.branch = None;
    assert!(text("{{ branch }}", &bare).unwrap_err().to_string().contains("there is no `branch` here"));
}

#[test]
fn an_expression_cannot_run_away() {
    for source in
        ["{{ 'x' * 100000000 }}", "{{ ('x' * 100000) * 100000 }}", "{{ ((1,) * 10000000) | length }}"]
    {
        let error = text(source, &scope()).unwrap_err();
        assert!(matches!(error, RenderError::Evaluate { .. }), "{source}: {error}");
    }
}

#[test]
fn faults_are_found_without_values_and_know_their_place() {
    let cases = [
        ("a {{ brnch }}", "brnch", "unknown name `brnch` (did you mean `branch`?)"),
        ("{{ version }}", "version", "a property is written `props.version`"),
        ("x {{ branch | uper }}", "uper", "unknown filter `uper` (did you mean `upper`?)"),
        ("{{ branch is definde }}", "definde", "unknown test `definde` (did you mean `defined`?)"),
        ("{{ branch is not nonsense }}", "nonsense", "unknown test `nonsense`"),
        ("a {{ branch", "{{", "`{{` is not closed"),
        ("{{ 'a }}", "{{", "`{{` is not closed"),
        ("{{}}", "", "nothing between the braces"),
        ("{{- branch }}", "{{-", "white space is not trimmed"),
        ("docker -f '{{.ID}}'", ".", "not an expression"),
        ("{% if x %}", "{% if x %}", "`{% if %}` is not available"),
        ("{%endif%}", "{%endif%}", "`{% endif %}` is not available"),
        ("{% raw %} {{ x }}", "{% raw %}", "not closed by `{% endraw %}`"),
        ("{{ range(3) }}", "range", "unknown name `range`"),
        ("{{ changed('x') }}", "changed", "unknown name `changed`"),
    ];
    for (source, at, message) in cases {
        let fault = check_template(source, &Sink::Text).unwrap_err();
        assert!(fault.to_string().contains(message), "{source}: {fault}");
        assert!(source[fault.offset..].starts_with(at), "{source}: {fault:?}");
        assert!(fault.offset + fault.length <= source.len(), "{source}: {fault:?}");
    }
}

#[test]
fn a_word_that_only_looks_like_a_filter_or_test_is_left_alone() {
    for source in ["{{ 'a | nope' }}", "{{ props.is }}", "{{ 'is nope' ~ branch }}", "{{ branch in ['a'] }}"]
    {
        assert_eq!(check_template(source, &Sink::Text), Ok(()), "{source}");
    }
}

#[test]
fn arguments_are_taken_as_they_are_but_for_nul_and_length() {
    let mut scope = scope();
    scope.branch = Some("';id $(reboot)\n\"".into());
    assert_eq!(argument("--b={{ branch }}", &scope).unwrap().text, "--b=';id $(reboot)\n\"");
    scope.branch = Some("a\0b".into());
    assert!(argument("{{ branch }}", &scope).unwrap_err().to_string().contains("NUL"));
    scope.branch = Some("a".repeat(200_000));
    assert!(argument("{{ branch }}", &scope).unwrap_err().to_string().contains("200000 bytes"));
}

#[test]
fn paths_stay_below_their_root() {
    let with = |branch: &str| {
        let mut scope = scope();
        scope.branch = Some(branch.into());
        path("build/{{ branch }}", &scope).map(|r| r.text).map_err(|e| e.to_string())
    };
    assert_eq!(with("release/1").unwrap(), "build/release/1");
    assert_eq!(with("a..b").unwrap(), "build/a..b");
    for bad in ["..", "../x", "x/../../y", "x/..", "a\0b"] {
        assert!(with(bad).unwrap_err().contains("is refused"), "{bad:?}");
    }
    let mut scope = scope();
    for (whole, reason) in [("/etc/passwd", "absolute"), ("", "empty")] {
        scope.branch = Some(whole.into());
        let error = path("{{ branch }}", &scope).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    scope.branch = Some(".".into());
    assert!(path("{{ branch }}{{ branch }}/x", &scope).is_err(), "two dots made of two values");
    for bad in ["/abs", "a/../b", "..", "", "/{{ branch }}"] {
        assert!(check_template(bad, &Sink::Path).is_err(), "{bad:?}");
    }
    assert_eq!(check_template("a/{{ branch }}", &Sink::Path), Ok(()));
}

#[test]
fn signs_of_a_glob_in_a_value_are_signs() {
    let scope = Scope { branch: Some("{a,b}*[x]?".into()), ..scope() };
    let glob = pattern("out/{{ branch }}/*.{deb,rpm}", &scope).unwrap().text;
    assert_eq!(glob, "out/[{]a,b}[*][[]x][?]/*.{deb,rpm}");
    let scope = Scope { branch: Some("../up".into()), ..scope };
    assert!(pattern("out/{{ branch }}/*", &scope).is_err());
}

#[test]
fn images_are_what_a_registry_takes() {
    let with = |source: &str, branch: Json| {
        let mut scope = scope();
        scope.props.set("x", branch, "test", false);
        image(source, &scope).map(|r| r.text).map_err(|e| e.to_string())
    };
    let tagged = "registry.local/{{ project }}:{{ props.x | tag }}";
    assert_eq!(with(tagged, json!("release/1.2")).unwrap(), "registry.local/shop:release-1.2");
    assert_eq!(with(tagged, json!("$(reboot)")).unwrap(), "registry.local/shop:_--reboot-");
    assert_eq!(with(tagged, json!("-rf é")).unwrap(), "registry.local/shop:_-rf--");
    assert_eq!(with(tagged, json!("x".repeat(300))).unwrap().len(), "registry.local/shop:".len() + 128);
    assert_ne!(with(tagged, json!("x".repeat(300))), with(tagged, json!("x".repeat(301))));
    let digest = format!("debian@sha256:{}", "a".repeat(64));
    for good in
        ["debian", "debian:12", "localhost:5000/a/b_c/d__e:T-1.x", "ghcr.io/a.b/c---d", &digest, "a.b:5/x"]
    {
        assert_eq!(with("{{ props.x }}", json!(good)).unwrap(), good);
        assert_eq!(check_template(good, &Sink::Image), Ok(()), "{good}");
    }
    for bad in [
        "",
        "Debian",
        "a b",
        "debian:",
        "debian:-x",
        "a//b",
        "/a",
        "a/",
        "a:b:c",
        "../x",
        "a/../b",
        "a@md5:00",
        "é",
        "a$b",
        "a\nb",
        "registry:99999/x",
        "-x.y/z",
        "a___b",
        "a/b:x/c",
    ] {
        assert!(with("{{ props.x }}", json!(bad)).is_err(), "{bad:?} was taken");
        assert!(check_template(bad, &Sink::Image).is_err(), "{bad:?} passed the check");
    }
}

#[test]
fn a_part_of_an_image_brings_no_registry_tag_or_digest_of_its_own() {
    let mut scope = scope();
    scope.branch = Some("shop:evil".into());
    let error = image("registry.local/{{ branch }}", &scope).unwrap_err().to_string();
    assert!(error.contains("must not bring its own"), "{error}");
    scope.branch = Some(format!("x@sha256:{}", "a".repeat(64)));
    assert!(image("registry.local/{{ branch }}", &scope).is_err());
    scope.branch = Some(String::new());
    assert!(image("registry.local/shop:{{ branch | tag }}", &scope).is_err());
    let number = image("python:{{ props.count }}", &scope).unwrap_err().to_string();
    assert!(number.contains("is the number 3"), "{number}");
    let worker = check_template("debian:{{ worker.os }}", &Sink::Image).unwrap_err();
    assert!(worker.message.contains("before there is a worker"));
}

#[test]
fn taint_follows_what_was_used() {
    let mut scope = scope();
    assert!(!text("{{ props.version }}", &scope).unwrap().tainted);
    assert!(text("{{ props.version }} {{ props.evil }}", &scope).unwrap().tainted);
    assert!(text("{{ 'a' if props.evil else 'b' }}", &scope).unwrap().tainted);
    assert!(!text("{{ branch }}", &scope).unwrap().tainted);
    scope.tainted = true;
    assert!(text("{{ branch }}", &scope).unwrap().tainted);
}

#[test]
fn a_secret_is_a_reference_only_where_the_config_says_so() {
    let mut scope = scope();
    assert_eq!(
        environment_value("secret:deploy-key", &scope).unwrap(),
        RenderedValue::Secret("deploy-key".into())
    );
    assert!(environment_value("secret:{{ branch }}", &scope).is_err());
    scope.branch = Some("secret:deploy-key".into());
    let RenderedValue::Text(text) = environment_value("{{ branch }}", &scope).unwrap() else {
        panic!("a property chose a secret")
    };
    assert_eq!(text.text, "secret:deploy-key");
}

#[test]
fn a_document_keeps_its_shape() {
    let mut scope = scope();
    scope.branch = Some("x\", \"privileged\": true, \"y\": \"".into());
    let tree = json!({"image": "a", "labels": {"{{ branch }}": "{{ branch }}"}, "n": [1, null, "{{ props.count }}"]});
    let mut seen = Vec::new();
    let out = document(&tree, &mut |at, leaf| {
        seen.push(at.join("."));
        Ok(Json::String(text(leaf, &scope)?.text))
    })
    .unwrap();
    assert_eq!(out["labels"]["{{ branch }}"], json!(scope.branch));
    assert_eq!(out["n"], json!([1, null, "3"]));
    assert_eq!(out.as_object().unwrap().len(), 3);
    assert_eq!(seen, ["image", "labels.{{ branch }}", "n.2"]);
}

#[test]
fn conditions_answer_true_or_false_and_nothing_else() {
    let mut scope = scope();
    scope.changed_files = Some(vec!["src/a/b.rs".into(), "docs/x.md".into()]);
    let holds = |source: &str| condition(source, &scope).map_err(|e| e.to_string());
    assert_eq!(holds("branch == \"main\""), Ok(false));
    assert_eq!(holds("branch is startingwith 'release/' and props.fast"), Ok(true));
    assert_eq!(holds("changed(\"src/**\")"), Ok(true));
    assert_eq!(holds("changed(\"src/*\")"), Ok(false));
    assert_eq!(holds("changed('**', '!src/**', '!docs/**')"), Ok(false));
    assert_eq!(holds("props.gone is defined and props.gone"), Ok(false));
    assert_eq!(holds("worker is defined"), Ok(false));
    assert!(holds("props.version").unwrap_err().contains("takes true or false"));
    assert!(holds("props.gone").unwrap_err().contains("no property `gone`"));
    assert!(holds("changed('[')").unwrap_err().contains("is not a pattern"));
    assert!(check_condition("{{ branch }} == 'main'").unwrap_err().message.contains("already"));
    assert!(check_condition("branch = 'main'").is_err());
    assert!(check_condition("chnged('x')").unwrap_err().to_string().contains("did you mean `changed`?"));
    scope.changed_files = None;
    assert!(condition("changed('src/**')", &scope).unwrap(), "unknown files count as changed");
}
