//! Names: of things that the configuration declares, of properties, of environment variables; exit codes as keys.

use super::LeafFault;
use crate::config::fault::Code;

/// Kept in step with `rouse_model::check_name` by a test below.
pub(crate) const NAME: &str = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";
pub(crate) const PROPERTY: &str = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$";
pub(crate) const ENV: &str = r"^[A-Za-z_][A-Za-z0-9_]*$";
pub(crate) const HEADER: &str = r"^[A-Za-z0-9][A-Za-z0-9_-]*$";
pub(crate) const EXIT_CODE: &str = r"^(0|[1-9][0-9]{0,2})$";

fn name(text: &str) -> Result<(), LeafFault> {
    rouse_model::check_name(text).map_err(|why| LeafFault::new(Code::BadName, why))
}

fn identifier(text: &str, what: &str) -> Result<(), LeafFault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(plain) {
        let why = format!("{what} has only letters, digits and `_`, and starts with no digit");
        return Err(LeafFault::new(Code::BadName, why));
    }
    Ok(())
}

fn property(text: &str) -> Result<(), LeafFault> {
    if text.len() > 64 {
        return Err(LeafFault::new(Code::BadName, "a property's name has at most 64 characters"));
    }
    identifier(text, "a property's name")
}

fn env(text: &str) -> Result<(), LeafFault> {
    identifier(text, "an environment variable's name")
}

fn header(text: &str) -> Result<(), LeafFault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(plain) {
        let why = "a header's name has only letters, digits, `-` and `_`, and starts with a letter or digit";
        return Err(LeafFault::new(Code::BadName, why));
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $(super::text_leaf!($(#[$doc])* $name, "name", name, { "pattern": NAME });)*
    };
}

names! {
    /// A tenant: owner of codebases and builders.
    ProjectName,
    /// A repository that builds check out.
    CodebaseName,
    /// An account or endpoint that makes instances.
    ProviderName,
    /// Workers of one shape.
    PoolName,
    /// A recipe.
    BuilderName,
    /// What turns changes, clocks and wishes into buildsets.
    SchedulerName,
    /// A value that never stands in a configuration.
    SecretName,
    /// A set of files kept from a build.
    ArtifactName,
    /// Something that builds share and that is no worker.
    LockName,
    /// A folder that is kept from build to build.
    CacheName,
    /// A log of a step, beside `stdio`.
    LogName,
}

impl BuilderName {
    /// One of the builders that an entry with a `matrix` becomes: `unit (gcc12)`. No entry itself can have such a name.
    pub(crate) fn of_matrix(&self, labels: &[String]) -> Self {
        Self(format!("{self} ({})", labels.join(", ")))
    }
}

/// The entry that a builder comes from, by its name.
pub(crate) fn family(builder: &str) -> &str {
    builder.split_once(" (").map_or(builder, |(family, _)| family)
}

super::text_leaf!(
    /// A property, as templates see it: `props.NAME`.
    PropertyName, "property-name", property, { "pattern": PROPERTY }
);
super::text_leaf!(
    /// A variable of a step's environment.
    EnvName, "env-name", env, { "pattern": ENV }
);
super::text_leaf!(
    /// A header of HTTP, in any case.
    HeaderName, "header-name", header, { "pattern": HEADER }
);

/// An exit code of a process, 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitCode(pub u8);

impl std::str::FromStr for ExitCode {
    type Err = LeafFault;
    fn from_str(text: &str) -> Result<Self, LeafFault> {
        let zero_first = text.len() > 1 && text.starts_with(['0', '+']);
        let code = text.parse().ok().filter(|_| !zero_first);
        code.map(Self)
            .ok_or_else(|| LeafFault::new(Code::OutOfRange, "an exit code is a whole number from 0 to 255"))
    }
}

super::leaf_serde!(ExitCode, "exit-code", { "pattern": EXIT_CODE });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_that_editors_see_is_the_rule_that_the_model_has() {
        let pattern = regex::Regex::new(NAME).expect("a pattern of ours");
        let long = "a".repeat(64);
        let longer = "a".repeat(65);
        for text in ["a", "A9", "9.x_y-z", "", "-a", ".a", "a b", "ü", "a/b", &long, &longer] {
            assert_eq!(pattern.is_match(text), rouse_model::check_name(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn identifiers_are_what_their_patterns_say() {
        let property = regex::Regex::new(PROPERTY).expect("a pattern of ours");
        let env = regex::Regex::new(ENV).expect("a pattern of ours");
        let long = "a".repeat(64);
        let longer = "a".repeat(65);
        for text in ["a", "_a9", "9a", "", "a-b", "a.b", "ü", &long, &longer] {
            assert_eq!(property.is_match(text), text.parse::<PropertyName>().is_ok(), "{text:?}");
            assert_eq!(env.is_match(text), text.parse::<EnvName>().is_ok(), "{text:?}");
        }
    }
}
