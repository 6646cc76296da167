//! References to what is there, as the fleet keeps them.

use rouse_model::worker::ProviderRef;

/// What a reference means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    /// A worker's container, with the key of its link folder: `KEY:CONTAINER`.
    Worker { key: String, container: String },
    /// A link folder whose container is not there: `link:KEY`.
    Link { key: String },
    /// What stands beside a worker, by the worker's key: `beside:KEY`.
    Beside { key: String },
    /// `volume:NAME`
    Volume(String),
    /// `image:ID`
    Image(String),
    /// A container that is no worker's: `container:ID`.
    Container(String),
}

impl Reference {
    pub(crate) fn to_ref(&self) -> ProviderRef {
        ProviderRef(match self {
            Self::Worker { key, container } => format!("{key}:{container}"),
            Self::Link { key } => format!("link:{key}"),
            Self::Beside { key } => format!("beside:{key}"),
            Self::Volume(name) => format!("volume:{name}"),
            Self::Image(id) => format!("image:{id}"),
            Self::Container(id) => format!("container:{id}"),
        })
    }

    /// `None` for what cannot be anything of ours: it goes into addresses of calls, so only plain names are taken.
    pub(crate) fn parse(at: &ProviderRef) -> Option<Self> {
        let (kind, name) = at.0.split_once(':')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if name.is_empty() || !name.chars().all(plain) || name.starts_with('.') {
            return None;
        }
        let name = name.to_owned();
        match kind {
            "link" => is_key(&name).then_some(Self::Link { key: name }),
            "beside" => is_key(&name).then_some(Self::Beside { key: name }),
            "volume" => Some(Self::Volume(name)),
            "image" => Some(Self::Image(name)),
            "container" => Some(Self::Container(name)),
            key => is_key(key).then(|| Self::Worker { key: key.to_owned(), container: name }),
        }
    }
}

/// Whether a name is one that [`rouse_contract::Tag::key`] makes.
pub(crate) fn is_key(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back() {
        for text in [
            "0123456789ab:c0ffee",
            "link:0123456789ab",
            "beside:0123456789ab",
            "volume:rouse-agent-1",
            "image:sha256:12",
            "container:c0",
        ] {
            let read = Reference::parse(&ProviderRef(text.into())).expect(text);
            assert_eq!(read.to_ref().0, text);
        }
        for wrong in [
            "",
            "no reference",
            "c0ffee",
            "short:c0ffee",
            "link:../../etc12",
            "volume:",
            "volume:../x",
            "image:a/b?c",
        ] {
            assert_eq!(Reference::parse(&ProviderRef(wrong.into())), None, "{wrong}");
        }
    }
}
