use super::super::{Shell, Sink, check_template, script};
use super::scope;

fn sh(source: &str) -> Result<String, String> {
    script(source, &Shell::Posix, &scope()).map(|s| s.text).map_err(|e| e.to_string())
}

#[test]
fn references_are_written_for_their_place() {
    let cases = [
        ("echo {{ branch }}", "echo \"${ROUSE_1}\""),
        ("echo \"on {{ branch }}!\"", "echo \"on ${ROUSE_1}!\""),
        ("echo a{{ branch }}b 'c'{{ project }}", "echo a\"${ROUSE_1}\"b 'c'\"${ROUSE_2}\""),
        ("echo {{ branch }} {{branch}}", "echo \"${ROUSE_1}\" \"${ROUSE_1}\""),
        ("x=$(echo {{ branch }})", "x=$(echo \"${ROUSE_1}\")"),
        ("x=\"$(echo {{ branch }} \"{{ project }}\")\"", "x=\"$(echo \"${ROUSE_1}\" \"${ROUSE_2}\")\""),
        (
            "cat <<E\n\"{{ branch }}\"\nE\necho {{ branch }}",
            "cat <<E\n\"${ROUSE_1}\"\nE\necho \"${ROUSE_1}\"",
        ),
        ("cat <<-E\n\t{{ branch }} $(id)\n\tE\n", "cat <<-E\n\t${ROUSE_1} $(id)\n\tE\n"),
        ("# it's {{ branch }}\necho {{ branch }}", "# it's {{ branch }}\necho \"${ROUSE_1}\""),
        ("echo $# {{ branch }}", "echo $# \"${ROUSE_1}\""),
        ("echo ${#x} {{ branch }}", "echo ${#x} \"${ROUSE_1}\""),
        ("echo $((1 << 2)) {{ branch }}", "echo $((1 << 2)) \"${ROUSE_1}\""),
        (
            "case {{ branch }} in {{ project }}) :;; *) :;; esac",
            "case \"${ROUSE_1}\" in \"${ROUSE_2}\") :;; *) :;; esac",
        ),
        ("sh -c 'echo \"$1\"' _ {{ branch }}", "sh -c 'echo \"$1\"' _ \"${ROUSE_1}\""),
        ("make V={{ branch }} && ( cd {{ project }} )", "make V=\"${ROUSE_1}\" && ( cd \"${ROUSE_2}\" )"),
        (
            "export V={{ branch }}; sed -n '$p' {{ branch }}",
            "export V=\"${ROUSE_1}\"; sed -n '$p' \"${ROUSE_1}\"",
        ),
        ("awk -v v={{ branch }} '{print v}' f", "awk -v v=\"${ROUSE_1}\" '{print v}' f"),
        ("jq --arg v {{ branch }} '.a = $v' f", "jq --arg v \"${ROUSE_1}\" '.a = $v' f"),
        (
            "[ {{ branch }} = main ] || [[ {{ branch }} == main ]]",
            "[ \"${ROUSE_1}\" = main ] || [[ \"${ROUSE_1}\" == main ]]",
        ),
        (
            "a=({{ branch }} x); ( [ {{ branch }} = x ] ); ls f[0-9] {{ branch }}",
            "a=(\"${ROUSE_1}\" x); ( [ \"${ROUSE_1}\" = x ] ); ls f[0-9] \"${ROUSE_1}\"",
        ),
        ("a[0]={{ branch }}", "a[0]=\"${ROUSE_1}\""),
        ("declare -a a=({{ branch }})", "declare -a a=(\"${ROUSE_1}\")"),
        ("${PYTHON:-python3} x.py {{ branch }}", "${PYTHON:-python3} x.py \"${ROUSE_1}\""),
        ("echo 2>&1 {{ branch }} >&2", "echo 2>&1 \"${ROUSE_1}\" >&2"),
    ];
    for (source, expected) in cases {
        assert_eq!(sh(source).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn values_travel_in_the_environment_alone() {
    let done = script("echo {{ props.evil }} {{ branch }}", &Shell::Bash, &scope()).unwrap();
    assert_eq!(
        done.env.into_iter().collect::<Vec<_>>(),
        [("ROUSE_1".into(), "$(reboot)".into()), ("ROUSE_2".to_string(), "release/1.2".to_string()),]
    );
    assert!(done.tainted);
    assert!(!done.text.contains("reboot"));
}

#[test]
fn places_where_a_value_would_not_stay_text_are_refused() {
    let cases = [
        ("echo '{{ branch }}'", "single quotes"),
        ("echo $'{{ branch }}'", "`$'…'`"),
        ("echo `echo {{ branch }}`", "backticks"),
        ("cat <<'E'\n{{ branch }}\nE\n", "quoted delimiter"),
        ("cat <<\\E\n{{ branch }}\nE\n", "quoted delimiter"),
        ("cat <<E\"O\"F\n{{ branch }}\nEOF\n", "quoted delimiter"),
        ("cat <<{{ branch }}\nx\n", "delimiter of a here-document cannot be a value"),
        ("echo ${{ branch }}", "a `$` stands before"),
        ("echo \"${{ branch }}\"", "a `$` stands before"),
        ("echo \\{{ branch }}", "a backslash stands before"),
        ("echo \"\\{{ branch }}\"", "a backslash stands before"),
        ("echo ${x:-{{ branch }}}", "within `${…}`"),
        ("echo \"${x:-\"{{ branch }}\"}\"", "within `${…}`"),
        ("echo ${x[$(echo {{ branch }})]}", "within `${…}`"),
        ("echo $(( {{ props.count }} + 1 ))", "arithmetic"),
        ("echo \"$(( {{ props.count }} ))\"", "arithmetic"),
        ("(( {{ props.count }} > 1 )) && echo", "arithmetic"),
        ("echo $[ {{ props.count }} ]", "arithmetic"),
        ("echo $(( $(echo {{ branch }}) ))", "arithmetic"),
        ("[[ {{ branch }} -eq 1 ]]", "arithmetic in `[[ … ]]`"),
        ("a[{{ branch }}]=1", "arithmetic"),
        ("a[ {{ branch }} ]=1", "array's index"),
        ("a[1;{{ branch }}", "array's index"),
        ("a=([{{ branch }}]=1)", "arithmetic"),
        ("a+=(x [ {{ branch }} ]=1)", "array's index"),
        ("eval echo {{ branch }}", "code for `eval`"),
        ("X=1 eval \"echo {{ branch }}\"", "code for `eval`"),
        ("if eval {{ branch }}; then :; fi", "code for `eval`"),
        ("eval \"$(echo {{ branch }})\"", "code for `eval`"),
        ("sh -c \"echo {{ branch }}\"", "code for `sh`"),
        ("sudo -u x /bin/bash -ec \"echo {{ branch }}\"", "code for `bash`"),
        ("docker run img sh -c \"echo {{ branch }}\"", "code for `sh`"),
        ("find . -exec sh -c \"echo {{ branch }}\" \\;", "code for `sh`"),
        ("python3 -c \"print('{{ branch }}')\"", "code for `python3`"),
        ("perl -ne \"print '{{ branch }}'\"", "code for `perl`"),
        ("ssh host \"echo {{ branch }}\"", "code for `ssh`"),
        ("trap \"rm {{ branch }}\" EXIT", "code for `trap`"),
        ("let x={{ branch }}", "code for `let`"),
        ("$NONE let {{ branch }}", "code for `let`"),
        ("`true` eval {{ branch }}", "code for `eval`"),
        ("${x:-eval }{{ branch }}", "code for `eval`"),
        ("${SHELL_OF:-sh -c} \"echo {{ branch }}\"", "code for `sh`"),
        (">f let {{ branch }}", "code for `let`"),
        ("2>&1 <g >|f let {{ branch }}", "code for `let`"),
        ("eval <(echo) {{ branch }}", "code for `eval`"),
        ("<<< x bash -s <<< \"{{ branch }}\"", "input that is code"),
        ("read {{ branch }}", "the name of a variable"),
        ("declare {{ branch }}=1", "the name of a variable"),
        ("declare -i x={{ branch }}", "the name of a variable"),
        ("declare -i x\nx={{ branch }}", "one was declared before"),
        ("\\builtin typeset -ri x; echo {{ branch }}", "one was declared before"),
        ("while sleep 1; do x={{ branch }}; declare -i x; done", "declares an integer"),
        ("f() { x={{ branch }}; local -i x; }", "declares an integer"),
        ("x=(<<E\n{{ branch }}\nE\n)", "breaks off a list"),
        ("x=(a; b)\ncat <<E\n{{ branch }}\nE\n", "breaks off a list"),
        ("declare -ai x=({{ branch }})", "in a list that is an argument"),
        ("eval x=({{ branch }})", "in a list that is an argument"),
        ("eval \\eval x=({{ branch }}case a in a) }", "in a list that is an argument"),
        ("printf -v {{ branch }} x", "the name of a variable"),
        ("[ -v {{ branch }} ]", "the name of a variable"),
        ("sed -i \"s/@/{{ branch }}/\" f", "a program for `sed`"),
        ("sed -i -e \"s/@/{{ branch }}/\" f", "a program for `sed`"),
        ("awk \"/{{ branch }}/\" f", "a program for `awk`"),
        ("bash <<E\necho {{ branch }}\nE\n", "reads its input as code"),
        ("cat <<E | sh -s x\necho {{ branch }}\nE\n", "reads its input as code"),
        ("echo \"echo {{ branch }}\" | tee f | sudo sh", "reads its input as code"),
        ("bash <<< \"echo {{ branch }}\"", "input that is code"),
        ("#!/usr/bin/env python3\nprint({{ branch }})", "a script for `python3`"),
        ("x=$(case a in a) echo {{ branch }};; esac)", "shells differ on `case`"),
        ("echo $'a\\'' {{ branch }}", "shells differ on `\\'`"),
        ("echo \"${x:-'}\" {{ branch }}", "shells differ on quotes"),
        ("echo \"{{ branch }}", "double quotes opened here"),
        ("echo {{ branch }} 'x", "single quotes opened here"),
        ("echo $(echo {{ branch }}", "`$(…)` opened here"),
    ];
    for (source, message) in cases {
        let fault = check_template(source, &Sink::Script(Shell::Posix)).expect_err(source);
        assert!(fault.to_string().contains(message), "{source}: {fault}");
        assert!(fault.offset + fault.length <= source.len(), "{source}: {fault:?}");
        assert!(sh(source).is_err(), "{source} was rendered although its check fails");
    }
}

#[test]
fn other_interpreters_take_values_by_environment_only() {
    let python = Shell::of_interpreter(&["/usr/bin/env", "-S", "python3"]);
    assert_eq!(python, Shell::Other("python3".into()));
    let fault = check_template("print('{{ branch }}')", &Sink::Script(python.clone())).unwrap_err();
    assert!(fault.to_string().contains("pass the value by `env:`"), "{fault}");
    let plain = "print('{}'.format({'a': 1}))";
    assert_eq!(script(plain, &python, &scope()).unwrap().text, plain);
    assert_eq!(Shell::of_interpreter(&["/bin/busybox", "sh", "-e"]), Shell::Posix);
    assert_eq!(Shell::of_interpreter(&["/usr/local/bin/bash"]), Shell::Bash);
}

#[test]
fn a_script_without_expressions_is_nobodys_business() {
    let odd = "echo 'unclosed $(( `\n{% raw %}{{ x }}{% endraw %}";
    assert_eq!(sh(odd).unwrap(), "echo 'unclosed $(( `\n{{ x }}");
    assert_eq!(sh("a=(1 2); echo ${#a[@]} {%s}").unwrap(), "a=(1 2); echo ${#a[@]} {%s}");
}

#[test]
fn bash_has_its_own_rules_where_it_is_named() {
    let source = "echo $'it\\'s' {{ branch }}";
    assert!(script(source, &Shell::Bash, &scope()).is_ok());
    assert!(script(source, &Shell::Posix, &scope()).is_err());
}

#[test]
fn values_that_no_environment_takes_are_refused() {
    let mut scope = scope();
    scope.branch = Some("a\0b".into());
    assert!(script("echo {{ branch }}", &Shell::Posix, &scope).unwrap_err().to_string().contains("NUL"));
    scope.branch = Some("x".repeat(200_000));
    assert!(
        script("echo {{ branch }}", &Shell::Posix, &scope).unwrap_err().to_string().contains("200000 bytes")
    );
}
