//! Where a codebase's repository is, and by what key it is reached.

use std::fmt;

use futures::future::BoxFuture;

use super::error::SourceError;

/// Says where codebases are. Implemented over the configuration in force and its secrets.
pub trait Repositories: fmt::Debug + Send + Sync {
    /// `None` where the configuration has no such codebase.
    ///
    /// # Errors
    /// Where its key cannot be had.
    fn repository<'a>(&'a self, codebase: &'a str) -> BoxFuture<'a, Result<Option<Repository>, SourceError>>;
}

/// A git repository on some machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    pub url: String,
    pub key: Option<Key>,
    /// Where its submodules may be, beside its own host.
    pub submodule_hosts: Vec<String>,
    /// Its address stands in a repository and not in the configuration.
    pub(super) is_submodule: bool,
    /// Whether ssh may show the master's own keys, where it has none of the codebase's.
    pub(super) has_identity: bool,
}

/// A secret that opens a repository: a private key for ssh, a password or token for http.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    pub(super) fn value(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Key(…)")
    }
}

/// How git gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Http,
    Ssh,
    Git,
    Local,
}

/// Whom a key for http is for, in the parts that git reads from an address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Site<'a> {
    pub scheme: &'a str,
    /// With its port, as written.
    pub host: &'a str,
    pub user: Option<String>,
    pub user_as_written: Option<&'a str>,
}

/// Which server an address is of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// Addresses with different ones are of different servers, also on one host.
    scheme: String,
    /// In small letters, without its port.
    pub host: String,
    port: Option<String>,
}

/// The host of a repository's address, in small letters; `None` for a path, and for what no person writes.
#[must_use]
pub fn host_of(url: &str) -> Option<String> {
    Repository::new(url, None, Vec::new()).server().map(|server| server.host)
}

impl Repository {
    /// One that the configuration names.
    #[must_use]
    pub fn new(url: impl Into<String>, key: Option<Key>, submodule_hosts: Vec<String>) -> Self {
        Self { url: url.into(), key, submodule_hosts, is_submodule: false, has_identity: true }
    }

    /// The server, where the address is written so plainly that git and its helpers cannot read another one in it.
    pub(super) fn server(&self) -> Option<Server> {
        let transport = self.transport().ok()?;
        let (scheme, authority) = match self.url.split_once("://") {
            Some((scheme, rest)) => (scheme, rest.split('/').next()?),
            None => ("ssh", self.url.split_once(':')?.0),
        };
        let (user, host) = authority.split_once('@').unwrap_or(("", authority));
        let user_is_plain = user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~%+:-".contains(&b));
        let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => {
                (host, rest.strip_prefix(':').or(if rest.is_empty() { None } else { Some("?") }))
            }
            None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
        };
        let host_is_plain = !host.is_empty()
            && !host.starts_with('-')
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b));
        let port_is_plain = port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()));
        if !user_is_plain || !host_is_plain || !port_is_plain {
            return None;
        }
        let (scheme, usual) = match transport {
            Transport::Http if scheme == "https" => ("https", "443"),
            Transport::Http => ("http", "80"),
            Transport::Ssh => ("ssh", "22"),
            Transport::Git => ("git", "9418"),
            Transport::Local => return None,
        };
        let port = port.filter(|port| !port.is_empty() && *port != usual).map(str::to_owned);
        Some(Server { scheme: scheme.to_owned(), host: host.to_ascii_lowercase(), port })
    }

    /// The site of an address of http.
    pub(super) fn site(&self) -> Site<'_> {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // at the first `@`, as git does
        let (login, host) = authority.split_once('@').map_or((None, authority), |(l, h)| (Some(l), h));
        let user_as_written = login.and_then(|login| login.split(':').next()).filter(|user| !user.is_empty());
        Site { scheme, host, user: user_as_written.map(decoded), user_as_written }
    }

    pub(super) fn check(&self) -> Result<(), SourceError> {
        self.transport().map(drop)
    }

    /// What git would make of the address; what it would run a program for is refused here already.
    pub(super) fn transport(&self) -> Result<Transport, SourceError> {
        let url = self.url.as_str();
        let refuse = |reason: &str| Err(SourceError::Address(reason.to_owned()));
        if url.is_empty() {
            return refuse("it is empty");
        }
        if url.starts_with('-') {
            return refuse("it starts with `-`, as an option does");
        }
        if url.chars().any(char::is_control) {
            return refuse("it contains a control character");
        }
        if let Some((scheme, rest)) = url.split_once("://") {
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            if host.starts_with('-') {
                return refuse("its host starts with `-`, as an option does");
            }
            return match scheme {
                "http" | "https" => Ok(Transport::Http),
                "ssh" | "git+ssh" | "ssh+git" => Ok(Transport::Ssh),
                "git" => Ok(Transport::Git),
                "file" => Ok(Transport::Local),
                _ => refuse("only http, https, ssh, git and file are allowed"),
            };
        }
        if url.starts_with('/') {
            return Ok(Transport::Local);
        }
        match url.split_once(':') {
            Some((_, rest)) if rest.starts_with(':') => refuse(
                "`name::` would run a program to reach it; only http, https, ssh, git and file are allowed",
            ),
            // `user@host:path`, as git and people write it
            Some((host, _)) if !host.contains('/') && !host.is_empty() => Ok(Transport::Ssh),
            _ => refuse("it is neither an address nor an absolute path"),
        }
    }
}

/// Without the percent signs of an address.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| hex::decode(hex).ok());
        bytes.push(code.as_ref().map_or(*first, |code| code[0]));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Key, Repository, Site, Transport};

    #[test]
    fn the_site_of_a_key_is_read_as_git_reads_it() {
        let repository = |url: &str| Repository::new(url, None, Vec::new());
        let plain = repository("https://git.example.org:8443/a@b/c.git");
        let host = "git.example.org:8443";
        assert_eq!(plain.site(), Site { scheme: "https", host, user: None, user_as_written: None });
        let named = repository("http://ann%40example.org:x@h?a@b");
        let site = named.site();
        assert_eq!((site.scheme, site.host), ("http", "h"));
        assert_eq!(site.user.as_deref(), Some("ann@example.org"));
        assert_eq!(site.user_as_written, Some("ann%40example.org"));
        assert_eq!(repository("https://a@good@evil/x").site().host, "good@evil");
    }

    fn transport(url: &str) -> Option<Transport> {
        Repository::new(url, None, Vec::new()).transport().ok()
    }

    #[test]
    fn addresses_are_told_apart_and_hostile_ones_refused() {
        assert_eq!(transport("https://git.example.org/a.git"), Some(Transport::Http));
        assert_eq!(transport("ssh://git@h:22/a"), Some(Transport::Ssh));
        assert_eq!(transport("git@example.org:shop/app.git"), Some(Transport::Ssh));
        assert_eq!(transport("/srv/git/a.git"), Some(Transport::Local));
        assert_eq!(transport("file:///srv/a"), Some(Transport::Local));
        assert_eq!(transport("git://h/a"), Some(Transport::Git));
        for bad in [
            "",
            "--upload-pack=touch x",
            "-x",
            "ext::sh -c id",
            "fd::3",
            "ext://x",
            "ssh://-oProxyCommand=id/x",
            "ssh://u@-oProxyCommand=id/x",
            "a/b",
            "https://h/a\nb",
            "ftp://h/a",
            "::x",
            ":x",
        ] {
            assert_eq!(transport(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_host_of_an_address_is_told_where_it_is_plain() {
        for (url, host) in [
            ("https://Git.Example.org:8443/a.git", Some("git.example.org")),
            ("ssh://git@h:22/a", Some("h")),
            ("git@h:shop/app.git", Some("h")),
            ("git://[::1]:7/a", Some("::1")),
            ("/srv/git/a.git", None),
            ("file:///srv/a", None),
            ("https://good@evil@h/x", None),
            ("https://good\\@evil/x", None),
            ("https://evil?@good/x", None),
            ("https://evil#@good/x", None),
            ("https://h:80x/a", None),
            ("ext::sh -c id", None),
        ] {
            assert_eq!(super::host_of(url).as_deref(), host, "{url}");
        }
        let server = |url: &str| Repository::new(url, None, Vec::new()).server();
        assert_eq!(server("ssh://git@h:22/a"), server("git@h:b"));
        assert_ne!(server("https://h/a"), server("http://h/a"));
        assert_ne!(server("https://h/a"), server("https://h:8443/a"));
    }

    #[test]
    fn a_key_is_never_shown() {
        assert_eq!(format!("{:?}", Key::new("hunter2")), "Key(…)");
    }
}
