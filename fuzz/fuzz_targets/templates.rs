//! Templates and conditions, as configurations and, one day, repositories write them. The first line is the value of a property.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rouse_master_parsers::render::{
    Scope, Shell, Sink, argument, check_condition, check_template, condition, image, path, pattern, script,
    text,
};

fuzz_target!(|data: &[u8]| {
    let Ok(input) = std::str::from_utf8(data) else { return };
    let (value, source) = input.split_once('\n').unwrap_or(("value", input));
    let mut scope = Scope { branch: Some("main".into()), ..Scope::default() };
    scope.props.set("p", value, "fuzz", true);
    scope.props.set("n", 3, "fuzz", false);
    let shells = [Shell::Posix, Shell::Bash, Shell::Other("python3".into())];
    for shell in shells {
        let checked = check_template(source, &Sink::Script(shell.clone()));
        if let Ok(rendered) = script(source, &shell, &scope) {
            assert!(checked.is_ok());
            // A value never becomes part of the script itself. What could stand there anyway says nothing.
            let telling = value.len() > 12
                && !value.contains("ROUSE")
                && !source.contains("{%")
                && !source.contains(value);
            assert!(!(telling && rendered.text.contains(value)), "{}", rendered.text);
        }
    }
    for sink in [Sink::Text, Sink::Argument, Sink::Path, Sink::Image] {
        let _ = check_template(source, &sink);
    }
    let _ = (text(source, &scope), argument(source, &scope), image(source, &scope), pattern(source, &scope));
    if let Ok(rendered) = path(source, &scope) {
        assert!(!rendered.text.starts_with('/') && rendered.text.split('/').all(|part| part != ".."));
    }
    if condition(source, &scope).is_ok() {
        assert!(check_condition(source).is_ok());
    }
});
