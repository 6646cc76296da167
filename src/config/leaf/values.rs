//! Values with a grammar of their own: templates and what holds them, references to secrets, paths, addresses, regular expressions.

use super::{LeafFault, SecretName, text_leaf};
use crate::config::fault::Code;
use crate::render::{self, Sink, TemplateFault};

impl From<TemplateFault> for LeafFault {
    fn from(fault: TemplateFault) -> Self {
        let at = Some(fault.offset..fault.offset + fault.length);
        Self { code: Code::BadTemplate, message: fault.message, help: fault.help, at }
    }
}

fn check_template(text: &str) -> Result<(), LeafFault> {
    Ok(render::check_template(text, &Sink::Argument)?)
}

fn check_script(text: &str) -> Result<(), LeafFault> {
    if text.trim().is_empty() {
        return Err(LeafFault::new(Code::Empty, "an empty script does nothing"));
    }
    // Where its values stand is judged with the shell at hand, by the step.
    Ok(render::check_template(text, &Sink::Text)?)
}

fn check_condition(text: &str) -> Result<(), LeafFault> {
    Ok(render::check_condition(text)?)
}

text_leaf!(
    /// Text in which `{{ … }}` is filled in for each build.
    Template, "template", check_template, { "examples": ["--version={{ props.version }}"] }
);

text_leaf!(
    /// A shell script in which each `{{ … }}` becomes a quoted variable reference, never text.
    Script, "script", check_script, { "minLength": 1, "examples": ["make -j{{ worker.cpus }} test"] }
);

text_leaf!(
    /// An expression that is true or false for each build.
    Condition, "condition", check_condition, { "minLength": 1, "examples": ["changed(\"src/**\")", "branch == \"main\""] }
);

const SECRET: &str = "secret:";

fn check_secret_name(name: &str) -> Result<(), LeafFault> {
    name.parse::<SecretName>().map(drop).map_err(|mut fault| {
        fault.message = format!("`secret:` is followed by the name of a secret: {}", fault.message);
        fault
    })
}

fn check_secret_ref(text: &str) -> Result<(), LeafFault> {
    match text.strip_prefix(SECRET) {
        Some(name) => check_secret_name(name),
        None => Err(LeafFault::new(Code::SecretInText, "a secret is referred to, never written here")
            .help("declare it under `secrets:` and write `secret:NAME`")),
    }
}

text_leaf!(
    /// `secret:NAME`, for a secret that is declared under `secrets`.
    SecretRef, "secret-ref", check_secret_ref, { "pattern": "^secret:[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" }
);

impl SecretRef {
    #[must_use]
    pub fn name(&self) -> &str {
        self.as_str().strip_prefix(SECRET).unwrap_or_default()
    }
}

fn check_env_value(text: &str) -> Result<(), LeafFault> {
    match text.strip_prefix(SECRET) {
        Some(name) => check_secret_name(name),
        None => check_template(text),
    }
}

text_leaf!(
    /// Text, a template, or `secret:NAME`; numbers and `true`/`false` are taken as they are written.
    EnvValue, "env-value", check_env_value, { "type": ["string", "number", "boolean"] }
);

impl EnvValue {
    /// The secret that it refers to.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        self.as_str().strip_prefix(SECRET)
    }
}

fn check_header_value(text: &str) -> Result<(), LeafFault> {
    if let Some(name) = text.strip_prefix(SECRET) {
        return check_secret_name(name);
    }
    if text.is_empty() || text.trim() != text || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        let message = format!("`{}` is no value of a header", text.escape_debug());
        let fault = LeafFault::new(Code::BadAddress, message);
        return Err(fault.help("letters, digits and signs of ASCII, without blanks around them"));
    }
    Ok(())
}

text_leaf!(
    /// The value of a header of HTTP: text, or `secret:NAME` for all of it.
    HeaderValue, "header-value", check_header_value, { "minLength": 1, "examples": ["secret:collector"] }
);

impl HeaderValue {
    /// The secret that it refers to.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        self.as_str().strip_prefix(SECRET)
    }
}

fn check_relative(text: &str) -> Result<(), LeafFault> {
    let template = |sink| render::check_template(text, &sink);
    template(Sink::Text)?;
    // What is left is what only a path must not be.
    let help = "paths are relative to the build's folder and stay below it";
    template(Sink::Path).map_err(|fault| LeafFault::new(Code::BadPath, fault.message).help(help))?;
    if text.starts_with('~') {
        return Err(
            LeafFault::new(Code::BadPath, format!("`{text}` is not within the build's folder")).help(help)
        );
    }
    Ok(())
}

text_leaf!(
    /// A path below the build's folder; a template.
    RelativePath, "relative-path", check_relative, { "minLength": 1, "examples": ["app/build"] }
);

fn check_cache_path(text: &str) -> Result<(), LeafFault> {
    let below = text.strip_prefix('/').unwrap_or(text).trim_end_matches('/');
    let fault = |why: &str| Err(LeafFault::new(Code::BadPath, format!("`{text}` {why}")));
    if below.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return fault("is no folder of its own: without `.`, `..` and empty parts");
    }
    if render::is_template(text) {
        return fault("is to be written out: what varies belongs into `key`");
    }
    if text.starts_with('~') || text.chars().any(char::is_control) {
        return fault("is no path that is the same everywhere");
    }
    Ok(())
}

text_leaf!(
    /// A folder that is kept: below the build's folder, or absolute.
    CachePath, "cache-path", check_cache_path, { "minLength": 1, "examples": ["target", "/root/.cache/ccache"] }
);

fn check_web_url(text: &str) -> Result<(), LeafFault> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !text.contains(char::is_whitespace) => {
            Ok(())
        }
        _ => Err(LeafFault::new(Code::BadAddress, format!("`{text}` is no web address"))
            .help("it begins with `https://` or `http://`")),
    }
}

text_leaf!(
    /// The address that people and workers open.
    WebUrl, "web-url", check_web_url, { "pattern": "^https?://[^/\\s]\\S*$", "examples": ["https://ci.example.org"] }
);

fn check_bucket_url(text: &str) -> Result<(), LeafFault> {
    let fault = |why: &str| {
        Err(LeafFault::new(Code::BadAddress, format!("`{text}` is no bucket of an object store: {why}"))
            .help("such as `s3://rouse-objects` or `s3://objects/ci/rouse`"))
    };
    let Some(rest) = text.strip_prefix("s3://") else { return fault("it does not begin with `s3://`") };
    let (bucket, prefix) =
        rest.split_once('/').map_or((rest, None), |(bucket, prefix)| (bucket, Some(prefix)));
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = bucket.as_bytes();
    if !(3..=63).contains(&bytes.len())
        || !edge(bytes.first())
        || !edge(bytes.last())
        || !bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
    {
        return fault("a bucket's name has 3 to 63 lower-case letters, digits, `-` and `.`");
    }
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if prefix.is_some_and(|prefix| prefix.len() > 200 || !prefix.split('/').all(plain)) {
        return fault(
            "what follows the bucket is names of letters, digits, `-`, `_` and `.`, with `/` between them",
        );
    }
    Ok(())
}

text_leaf!(
    /// A bucket of an object store, and where in it.
    BucketUrl, "bucket-url", check_bucket_url, { "pattern": "^s3://[a-z0-9]", "examples": ["s3://rouse-objects"] }
);

impl BucketUrl {
    /// The bucket's own name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        let rest = self.as_str().trim_start_matches("s3://");
        rest.split_once('/').map_or(rest, |(bucket, _)| bucket)
    }

    /// Where in it, without slashes around; often empty.
    #[must_use]
    pub fn prefix(&self) -> &str {
        let rest = self.as_str().trim_start_matches("s3://");
        rest.split_once('/').map_or("", |(_, prefix)| prefix)
    }
}

fn check_host_port(text: &str) -> Result<(), LeafFault> {
    let fault = |why: &str| {
        Err(LeafFault::new(Code::BadAddress, format!("`{text}` is not HOST:PORT: {why}"))
            .help("such as `ci.example.org:9443`, `10.0.0.1:9443` or `[fd00::1]:9443`"))
    };
    if text.contains("://") || text.contains('/') {
        return fault("it is no URL, and has no path");
    }
    let Some((host, port)) = text.rsplit_once(':') else { return fault("there is no port") };
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return fault("the port is a number from 1 to 65535");
    }
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
        || host.parse::<std::net::Ipv4Addr>().is_ok()
    {
        return Ok(());
    }
    if host.contains(':') {
        return fault("an address of version 6 stands in brackets");
    }
    if !is_name(host) || host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return fault("that is no host's name or address");
    }
    Ok(())
}

fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..64).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    host.len() <= 253 && host.split('.').all(label)
}

fn check_host_name(text: &str) -> Result<(), LeafFault> {
    match is_name(text) || text.parse::<std::net::Ipv6Addr>().is_ok() {
        true => Ok(()),
        false => {
            let message = format!("`{text}` is no host's name or address");
            Err(LeafFault::new(Code::BadAddress, message)
                .help("such as `git.example.org`, without a port or a path"))
        }
    }
}

text_leaf!(
    /// A host's name or address, alone.
    HostName, "host-name", check_host_name, { "minLength": 1, "examples": ["git.example.org"] }
);

text_leaf!(
    /// A host's name or address, and a port.
    HostPort, "host-port", check_host_port, { "minLength": 3, "examples": ["ci.example.org:9443"] }
);

impl HostPort {
    /// The name or address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.as_str().rsplit_once(':').map_or("", |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

fn check_git_url(text: &str) -> Result<(), LeafFault> {
    let fault = |why: &str| {
        Err(LeafFault::new(Code::BadAddress, format!("`{text}` is no address of a git repository: {why}")))
    };
    if text.trim() != text || text.is_empty() || text.chars().any(char::is_control) {
        return fault("it is empty, or has blanks around it");
    }
    if text.starts_with('-') {
        return fault("git would take it for an option");
    }
    // `ext::sh -c …` and its like run commands on the master.
    let scheme = text.split(['/', '@', '[']).next().unwrap_or_default();
    if scheme.contains("::") {
        return fault("remote helpers are not taken");
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let host = rest.split('/').next().unwrap_or_default();
    let scp = scheme.is_empty() && host.contains(':');
    if scheme.is_empty() && !scp && !text.starts_with('/') {
        return fault("it is neither a URL, nor `HOST:PATH`, nor an absolute path");
    }
    let (user, host) = host.rsplit_once('@').unwrap_or(("", host));
    if host.starts_with('-') {
        return fault("git would take the host for an option");
    }
    // A token in place of a user's name opens as much as a password does.
    if user.contains(':') || scheme.starts_with("http") && user.len() >= 20 {
        let start = text.find(user).unwrap_or_default();
        return Err(LeafFault::new(Code::SecretInText, "a password stands in the configuration")
            .at(start..start + user.len())
            .help("declare it under `secrets:` and write `key: secret:NAME` beside `git:`"));
    }
    Ok(())
}

text_leaf!(
    /// Where a git repository is: `https://…`, `ssh://…`, `git@host:path`, or a path on the master.
    GitUrl, "git-url", check_git_url, { "minLength": 1, "examples": ["https://git.example.org/shop/app.git"] }
);

fn check_regex(text: &str) -> Result<(), LeafFault> {
    match regex::Regex::new(text) {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err(LeafFault::new(Code::BadPattern, "the expression is too large"))
        }
        Err(error) => {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(LeafFault::new(Code::BadPattern, format!("not a regular expression: {why}")))
        }
    }
}

text_leaf!(
    /// A regular expression, searched for in each line.
    RegexText, "rust-regex", check_regex, { "minLength": 1, "examples": ["warning:"] }
);

fn check_step_name(text: &str) -> Result<(), LeafFault> {
    let length = text.chars().count();
    if length == 0 || length > 100 || text.chars().any(char::is_control) || text.trim() != text {
        return Err(LeafFault::new(
            Code::BadName,
            "a step's name is one line of 1 to 100 characters, without blanks around it",
        ));
    }
    Ok(())
}

text_leaf!(
    /// What a step is called, unique within its builder.
    StepName, "step-name", check_step_name, { "minLength": 1, "maxLength": 100 }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_build() {
        for good in [".", "app", "a/b", "{{ branch }}/x", "..x", "a..b"] {
            assert!(good.parse::<RelativePath>().is_ok(), "{good:?}");
        }
        for bad in ["", "/etc", "../x", "a/../b", "~/x"] {
            assert_eq!(bad.parse::<RelativePath>().expect_err(bad).code, Code::BadPath, "{bad:?}");
        }
    }

    #[test]
    fn a_host_stands_alone() {
        for good in ["git.example.org", "localhost", "10.0.0.1", "fd00::1"] {
            assert!(good.parse::<HostName>().is_ok(), "{good:?}");
        }
        for bad in ["", "git.example.org:22", "https://h", "h/x", "*.example.org", "a b", "me@h"] {
            assert_eq!(bad.parse::<HostName>().expect_err(bad).code, Code::BadAddress, "{bad:?}");
        }
    }

    #[test]
    fn a_masters_address_is_a_host_and_a_port() {
        for (good, host) in [
            ("ci.example.org:9443", "ci.example.org"),
            ("10.0.0.1:1", "10.0.0.1"),
            ("[fd00::1]:443", "fd00::1"),
        ] {
            assert_eq!(good.parse::<HostPort>().expect(good).host(), host);
        }
        for bad in
            ["", "ci", "ci:", "ci:0", "ci:70000", "wss://ci:1", "ci:1/x", "fd00::1:443", ":1", "10.0.0:1"]
        {
            assert_eq!(bad.parse::<HostPort>().expect_err(bad).code, Code::BadAddress, "{bad:?}");
        }
    }

    #[test]
    fn a_bucket_has_a_name_and_perhaps_a_place_in_it() {
        for (good, bucket, prefix) in
            [("s3://rouse-objects", "rouse-objects", ""), ("s3://b.1/ci/rouse", "b.1", "ci/rouse")]
        {
            let url: BucketUrl = good.parse().expect(good);
            assert_eq!((url.bucket(), url.prefix()), (bucket, prefix));
        }
        for bad in [
            "",
            "rouse",
            "s3:/rouse",
            "s3://ab",
            "s3://Rouse",
            "s3://-abc",
            "s3://abc/",
            "s3://abc/a//b",
            "s3://abc/../b",
            "s3://abc/a b",
        ] {
            assert_eq!(bad.parse::<BucketUrl>().expect_err(bad).code, Code::BadAddress, "{bad:?}");
        }
    }

    #[test]
    fn repositories_have_many_addresses_but_run_nothing() {
        for good in [
            "https://h/p.git",
            "ssh://git@h/p",
            "git@h:p.git",
            "/srv/p.git",
            "file:///p",
            "ssh://[::1]/p",
            "git@[::1]:p",
        ] {
            assert!(good.parse::<GitUrl>().is_ok(), "{good:?}");
        }
        for bad in [
            "",
            " x",
            "./p",
            "p.git",
            "ssh://-oProxyCommand=id/p",
            "git@-x:p",
            "-upload-pack=x",
            "ext::sh -c id",
            "a\nb",
        ] {
            assert_eq!(bad.parse::<GitUrl>().expect_err(bad).code, Code::BadAddress, "{bad:?}");
        }
        let fault = "https://me:hunter2@h/p".parse::<GitUrl>().expect_err("a password");
        assert_eq!((fault.code, fault.at), (Code::SecretInText, Some(8..18)));
        let token = "https://ghp_0123456789abcdef0123@h/p".parse::<GitUrl>().expect_err("a token");
        assert_eq!(token.code, Code::SecretInText);
        assert!("https://me@h/p".parse::<GitUrl>().is_ok());
    }

    #[test]
    fn an_env_value_knows_its_secret() {
        let value: EnvValue = "secret:key".parse().expect("a reference");
        assert_eq!(value.secret(), Some("key"));
        assert_eq!("a secret:key".parse::<EnvValue>().expect("text").secret(), None);
        assert!("secret:".parse::<EnvValue>().is_err());
        assert!("key".parse::<SecretRef>().is_err());
    }
}
